"""The hasher's outside in memory, and the hasher wired to it."""

from dataclasses import dataclass, field, replace

from services.hasher import handlers
from services.hasher.adapters.objects import Objects
from services.hasher.core.verdicts import Remembered, Row, place_of
from services.hasher.settings import HasherSettings
from services.hasher.workers import LargeObjects
from shared.events import ObjectChanged
from shared.storage import ObjectRef
from shared.testing.bus import Wired, wire
from shared.testing.objects import MemoryStore
from shared.testing.work import MemoryQueue
from shared.work import Lease


@dataclass
class Kept:
    """A row of `hasher.digests`."""

    row: Row
    revision: int
    current: bool = True
    history: list[str] = field(default_factory=list)


class FakeLedger:
    """`hasher.digests`: newer revisions win, nothing undoes a success, removals hide."""

    def __init__(self):
        self.rows = {}
        self.clock = lambda: 1 << 62

    def __getitem__(self, key):
        """Return the row of a key of the inbox."""
        (found,) = (kept for (_, mine, _), kept in self.rows.items() if mine == key and kept.current)
        return found.row

    async def recall(self, places):
        return {place: _remembered(self.rows[place]) for place in places if place in self.rows}, self.clock()

    async def record(self, rows, *, connection=None):  # noqa: ARG002
        return {place_of(row.change) for row in rows if self._keep(row)}

    def _keep(self, row):
        place, revision = place_of(row.change), row.change.revision
        mine = self.rows.get(place)
        if mine is not None and not self._yields(mine, row, revision):
            return False
        history = [*mine.history, row.status] if mine else [row.status]
        is_hint = row.status in ("superseded", "gone")
        beside = [kept for other, kept in self.rows.items() if other[:2] == place[:2] and other != place]
        current = row.is_current and not (
            is_hint and any(one.current and one.row.status == "succeeded" for one in beside)
        )
        self.rows[place] = Kept(row, revision, current, history)
        for other in beside:
            if current and not is_hint and other.revision < revision:
                other.current = False
        return True

    @staticmethod
    def _yields(mine, row, revision):
        if mine.row.status == "succeeded" and row.status in ("superseded", "gone"):
            return False
        if mine.revision == revision:
            return mine.row.status != "succeeded" or row.status == "succeeded"
        return mine.revision < revision

    async def remove(self, changes, *, clock):
        for one in changes:
            for (bucket, key, version), kept in self.rows.items():
                if (bucket, key) == (one.bucket, one.key) and one.version_id in (None, version):
                    self._hide(kept, one.revision, clock)

    def _hide(self, kept, revision, clock):
        if kept.revision < revision:
            ended = kept.row.status in ("succeeded", "failed")
            kept.current, kept.revision = kept.row.kept or not ended, max(kept.revision + 1, min(revision, clock))
            kept.row = kept.row if ended else replace(kept.row, status="gone")


def _remembered(kept):
    row, change = kept.row, kept.row.change
    return Remembered(
        change.etag,
        change.size,
        row.status,
        dict(row.digests),
        row.verification,
        row.mismatched,
        kept.revision,
        kept.current,
    )


@dataclass
class Hasher:
    """The hasher without a server."""

    settings: HasherSettings = field(default_factory=lambda: HasherSettings(hasher_wait_for_object=0.0))
    store: MemoryStore = field(default_factory=lambda: MemoryStore("inbox"))
    ledger: FakeLedger = field(default_factory=FakeLedger)
    revision: int = 0

    def __post_init__(self):
        self.wired: Wired = wire(self.settings, handlers.router)
        self.queue = MemoryQueue("digest")
        hashing = handlers.Hashing(self.ledger, Objects(self.store, self.settings), self.queue, self.settings)
        self.large = LargeObjects(hashing, self.wired.bus)
        handlers.router.provided.update(hashing=hashing)

    @property
    def recorder(self):
        return self.wired.recorder

    async def put(self, key, body=b"hello", **upload):
        """Store an object; return the fact that ingest would tell."""
        info = await self.store.put(ObjectRef("inbox", key), body, **upload)
        described = {"version_id": info.ref.version_id, "etag": info.etag, "size": len(body)}
        return self.change("stored", key, metadata=dict(info.metadata), **described)

    async def delete(self, key):
        await self.store.delete(ObjectRef("inbox", key))
        return self.change("removed", key)

    def change(self, change, key, **described):
        self.revision += 1
        return ObjectChanged(
            change=change,
            bucket="inbox",
            key=key,
            **described,
            revision=self.revision,
            correlation_id=f"{self.revision:032x}",
        )

    async def work(self):
        """Do all leased work that is due; return the leases."""
        leases = [Lease(item) for item in await self.queue.claim("worker", 100)]
        for lease in leases:
            await self.large.digest(lease)
            await self.queue.complete(lease.item)
        return leases

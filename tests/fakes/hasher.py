"""The hasher wired to in-memory adapters."""

from dataclasses import dataclass, field, replace

from services.hasher import handlers
from services.hasher.adapters.objects import ObjectDigester
from services.hasher.core.decisions import DigestRow, LedgerEntry, version_key_of
from services.hasher.hashing import Hashing
from services.hasher.settings import HasherSettings
from services.hasher.workers import LargeObjectWorker
from shared.events import ObjectChanged
from shared.storage import ObjectRef
from shared.testing.bus import Wired, wire
from shared.testing.objects import MemoryStore
from shared.testing.work import MemoryQueue
from shared.work import Lease


@dataclass
class StoredRow:
    """A row of `hasher.digests`."""

    row: DigestRow
    revision: int
    current: bool = True
    history: list[str] = field(default_factory=list)


class FakeLedger:
    """`hasher.digests` in memory: newer revisions win, nothing replaces a success, removals hide rows."""

    def __init__(self):
        self.rows = {}
        self.clock = lambda: 1 << 62

    def __getitem__(self, key):
        """Return the row of a key of the inbox."""
        (found,) = (stored for (_, name, _), stored in self.rows.items() if name == key and stored.current)
        return found.row

    async def get(self, keys):
        return {key: _entry(self.rows[key]) for key in keys if key in self.rows}, self.clock()

    async def save(self, rows, *, connection=None):  # noqa: ARG002
        return {version_key_of(row.change) for row in rows if self._save(row)}

    def _save(self, row):
        key, revision = version_key_of(row.change), row.change.revision
        known = self.rows.get(key)
        if known is not None and not self._is_replaced_by(known, row, revision):
            return False
        history = [*known.history, row.status] if known else [row.status]
        is_hint = row.status in ("superseded", "gone")
        others = [stored for other, stored in self.rows.items() if other[:2] == key[:2] and other != key]
        current = row.is_current and not (
            is_hint and any(one.current and one.row.status == "succeeded" for one in others)
        )
        self.rows[key] = StoredRow(row, revision, current, history)
        for other in others:
            if current and not is_hint and other.revision < revision:
                other.current = False
        return True

    @staticmethod
    def _is_replaced_by(known, row, revision):
        if known.row.status == "succeeded" and row.status in ("superseded", "gone"):
            return False
        if known.revision == revision:
            return known.row.status != "succeeded" or row.status == "succeeded"
        return known.revision < revision

    async def mark_removed(self, changes, *, clock):
        for one in changes:
            for (bucket, key, version), stored in self.rows.items():
                if (bucket, key) == (one.bucket, one.key) and one.version_id in (None, version):
                    self._hide(stored, one.revision, clock)

    def _hide(self, stored, revision, clock):
        if stored.revision < revision:
            ended = stored.row.status in ("succeeded", "failed")
            stored.current = stored.row.outlives_object or not ended
            stored.revision = max(stored.revision + 1, min(revision, clock))
            stored.row = stored.row if ended else replace(stored.row, status="gone")


def _entry(stored):
    row, change = stored.row, stored.row.change
    return LedgerEntry(
        change.etag,
        change.size,
        row.status,
        dict(row.digests),
        row.verification,
        row.mismatched,
        stored.revision,
        stored.current,
    )


@dataclass
class Hasher:
    """The hasher without servers."""

    settings: HasherSettings = field(default_factory=lambda: HasherSettings(hasher_wait_for_object=0.0))
    store: MemoryStore = field(default_factory=lambda: MemoryStore("inbox"))
    ledger: FakeLedger = field(default_factory=FakeLedger)
    revision: int = 0

    def __post_init__(self):
        self.wired: Wired = wire(self.settings, handlers.router)
        self.queue = MemoryQueue("digest")
        hashing = Hashing(self.ledger, ObjectDigester(self.store, self.settings), self.queue, self.settings)
        self.large = LargeObjectWorker(hashing, self.wired.bus)
        self.wired.attach(hashing=hashing)

    @property
    def recorder(self):
        return self.wired.recorder

    async def put(self, key, body=b"hello", **upload):
        """Store an object; return the fact that ingest would publish."""
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
        """Process all leased work that is due; return the leases."""
        leases = [Lease(item) for item in await self.queue.claim("worker", 100)]
        for lease in leases:
            await self.large.digest(lease)
            await self.queue.complete(lease.item)
        return leases

"""Sets of files that replace everything under a prefix, whole or not at all, whatever breaks in between.

First every file is stored in the staging bucket. Then the manifest: from that moment the set holds. Copies and removals
follow; where they are broken off, `finish_pending` takes them up again. In one process the sets of overlapping prefixes
follow each other; processes that share a staging bucket do not wait for each other.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from services.ingress.adapters.bodies import Body
from services.ingress.adapters.staging import Staging, each
from services.ingress.adapters.uploads import Uploads
from services.ingress.core.access import Principal
from services.ingress.core.replacement import Manifest, ancestors, overlap
from shared.errors import Outage, PenstockError, Rejected, one_line
from shared.outages import is_outage, retry_outages
from shared.storage import ObjectGone, ObjectRef, ObjectStore

log = structlog.get_logger()

ABANDONED: Final = timedelta(hours=1)
"""A set without a manifest that has not grown for so long is nobody's; a younger one may be another process's."""
TIDY_SECONDS: Final = 15.0
ABANDON_SECONDS: Final = 10.0


class Replacements:
    """Replaces what is under a prefix by the files of a form."""

    def __init__(self, store: ObjectStore, uploads: Uploads, staging_bucket: str) -> None:
        self._store = store
        self._uploads = uploads
        self._staging = Staging(store, staging_bucket)
        self._turns = _Turns()
        self._ours: set[str] = set()
        self._may_be_pending = True
        self._finishing = asyncio.Lock()

    async def replace(self, body: Body, bucket: str, who: Principal) -> Manifest:
        """Store the files of a form in place of all that is under the prefix it names.

        Raises Rejected for what the form is refused for, NO_SUCH_BUCKET for a prefix that `who` may not see, and
        Outage; a refusal leaves everything as it was.
        """
        set_id = uuid.uuid4().hex
        self._ours.add(set_id)
        try:
            # until all is done: a set that waits for another one has all of its names in memory
            async with self._uploads.slot(body):
                manifest = await self._received(body, bucket, who, set_id)
                await self._hold(manifest)
        finally:
            self._ours.discard(set_id)
        log.info("audit.set_replaced", by=who.name, bucket=bucket, prefix=manifest.prefix, files=len(manifest.files))
        return manifest

    async def finish_pending(self) -> None:
        """Finish what a manifest promises and nobody is at, in order; remove what never got a manifest."""
        async with self._finishing:
            ours = set(self._ours)
            waiting = await self._staging.waiting()
            others = {set_id: one for set_id, one in waiting.items() if set_id not in ours | self._ours}
            held = {set_id: one.held_at for set_id, one in others.items() if one.held_at is not None}
            for set_id in sorted(held, key=lambda one: held[one]):
                await self._finish(set_id)
            for set_id in others.keys() - held.keys():
                if others[set_id].newest < datetime.now(UTC) - ABANDONED:
                    await self._staging.remove(set_id)
                    log.info("set.removed", set=set_id)
            self._may_be_pending = False

    async def keep_finished(self) -> None:
        """Finish, now and then and for ever, what was broken off."""
        while True:
            try:
                await retry_outages(self.finish_pending)
            except Exception:
                log.exception("sets.not_looked_at")
            await asyncio.sleep(TIDY_SECONDS)

    async def _received(self, body: Body, bucket: str, who: Principal, set_id: str) -> Manifest:
        try:
            prefix, names = await self._staging.receive(body, set_id)
            _require_seen(who, bucket, prefix)
            manifest = Manifest.of(set_id, bucket, prefix, names, at=datetime.now(UTC), by=who.name)
            await self._require_visible(manifest)
        except BaseException:
            await asyncio.shield(self._abandon(set_id))
            raise
        return manifest

    async def _hold(self, manifest: Manifest) -> None:
        """Let a set hold once those before it do."""
        while True:
            if self._may_be_pending:
                await self.finish_pending()
            async with self._turns.of(manifest.bucket, manifest.prefix):
                if not self._may_be_pending:
                    await self._commit(manifest)
                    await self._carry_out_or_leave(manifest)
                    return

    async def _commit(self, manifest: Manifest) -> None:
        try:
            await self._staging.commit(manifest)
        except BaseException:
            # the answer may have been lost, not the manifest
            self._may_be_pending = True
            await asyncio.shield(self._abandon(manifest.set_id))
            raise

    async def _carry_out_or_leave(self, manifest: Manifest) -> None:
        try:
            await self._carry_out(manifest)
        except BaseException as error:
            self._may_be_pending = True
            if isinstance(error, Exception) and is_outage(error):
                raise Outage("the set is safe, and replaces the old one as soon as the object store is back") from error
            raise

    async def _carry_out(self, manifest: Manifest) -> None:
        """Do what a manifest promises; done twice is done once."""
        since = await self._staging.since(manifest)
        await self._copy_missing(manifest, since)
        # an object may have hidden others from the listing: look again until nothing old is left
        old = 0
        while old != (old := await self._delete_old(manifest, since)):
            pass
        await self._staging.remove(manifest.set_id)

    async def _copy_missing(self, manifest: Manifest, since: datetime) -> None:
        keys = frozenset(manifest.files.values())
        there: dict[str, datetime] = {}
        async for page in self._staging.pages(manifest.bucket, manifest.prefix):
            there.update((key, at) for key, at in page.items() if key in keys)

        async def copy(file: tuple[str, str]) -> None:
            await self._store.copy(self._staging.ref(file[0]), ObjectRef(manifest.bucket, file[1]))

        await each(manifest.missing(there, since).items(), copy)

    async def _delete_old(self, manifest: Manifest, since: datetime) -> int:
        """Remove what is old; return what tells these keys from others, and 0 where there was none."""
        found = 0
        async for page in self._staging.pages(manifest.bucket, manifest.prefix):
            if old := manifest.leftover(page, since):
                await self._store.delete_all(manifest.bucket, old)
                found = hash((found, *old))
        return found

    async def _finish(self, set_id: str) -> None:
        try:
            manifest = await self._staging.manifest(set_id)
            async with self._turns.of(manifest.bucket, manifest.prefix):
                await self._carry_out(manifest)
        except ObjectGone as error:
            # finished by another process, or broken by whoever tidies the staging bucket: it never will be whole
            log.warning("set.gone", set=set_id, reason=one_line(error))
            await self._staging.remove(set_id)
        except (Rejected, ValueError) as error:
            log.error("set.not_finished", set=set_id, reason=one_line(error))  # noqa: TRY400 - the reason says it all
        else:
            log.info("set.finished", set=set_id, bucket=manifest.bucket, prefix=manifest.prefix)

    async def _require_visible(self, manifest: Manifest) -> None:
        for key in ancestors(manifest.prefix):
            try:
                await self._store.head(ObjectRef(manifest.bucket, key))
            except ObjectGone:
                continue
            raise Rejected("PREFIX_HIDDEN", f"the object {key!r} hides what is in {manifest.prefix!r}: remove it first")

    async def _abandon(self, set_id: str) -> None:
        """Remove a set that came to nothing; what cannot be removed now is removed when it is `ABANDONED`."""
        try:
            async with asyncio.timeout(ABANDON_SECONDS):
                await self._staging.remove(set_id)
        except (PenstockError, TimeoutError) as error:
            log.warning("set.left", set=set_id, reason=one_line(error))


def _require_seen(who: Principal, bucket: str, prefix: str) -> None:
    if not who.sees(bucket, prefix):
        raise Rejected("NO_SUCH_BUCKET", f"there is no {prefix!r} in {bucket} that you may replace: check both")


class _Turns:
    """Lets those who replace overlapping prefixes wait for each other."""

    def __init__(self) -> None:
        self._taken: dict[tuple[str, str], asyncio.Event] = {}

    @asynccontextmanager
    async def of(self, bucket: str, prefix: str) -> AsyncIterator[None]:
        """Be the only one there."""
        while busy := self._busy(bucket, prefix):
            await busy.wait()
        self._taken[bucket, prefix] = done = asyncio.Event()
        try:
            yield
        finally:
            del self._taken[bucket, prefix]
            done.set()

    def _busy(self, bucket: str, prefix: str) -> asyncio.Event | None:
        taken = self._taken.items()
        return next((done for (b, p), done in taken if b == bucket and overlap(p, prefix)), None)

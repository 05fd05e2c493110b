"""Replace everything under a prefix by a set of files, atomically even across crashes.

First every file is stored in the staging bucket, then the manifest: from that moment the set is committed. Copies and
removals follow; after an interruption `finish_pending` completes them. Within one process sets of overlapping prefixes
are serialized; processes that share a staging bucket are not.
"""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from services.ingress.adapters.bodies import Body
from services.ingress.adapters.staging import Staging
from services.ingress.adapters.uploads import Uploads
from services.ingress.core.access import Principal
from services.ingress.core.replacement import Manifest
from shared.errors import Outage, PenstockError, Rejected, one_line
from shared.loops import periodically
from shared.outages import is_outage
from shared.storage import ObjectGone, ObjectStore
from shared.storage.prefixes import PrefixLocks, refuse_hidden_prefix, replace

log = structlog.get_logger()

ABANDONED_AFTER: Final = timedelta(hours=1)
"""Age after which a set without a manifest is removed; a younger one may belong to another process."""
FINISH_INTERVAL_SECONDS: Final = 15.0
ABANDON_SECONDS: Final = 10.0


class Replacements:
    """Replaces what is under a prefix by the files of a form."""

    def __init__(self, store: ObjectStore, uploads: Uploads, staging_bucket: str) -> None:
        self._store = store
        self._uploads = uploads
        self._staging = Staging(store, staging_bucket)
        self._locks = PrefixLocks()
        self._own_sets: set[str] = set()
        self._may_be_pending = True
        self._finishing = asyncio.Lock()

    async def replace(self, body: Body, bucket: str, principal: Principal) -> Manifest:
        """Store the files of a form in place of everything under the prefix that the form names.

        Raises Rejected for an invalid form, NO_SUCH_BUCKET for a prefix that `principal` may not see, and Outage; an
        error before the commit changes nothing.
        """
        set_id = uuid.uuid4().hex
        self._own_sets.add(set_id)
        try:
            # held to the end: a set that waits for another one keeps all its names in memory
            async with self._uploads.admit(body):
                manifest = await self._stage(body, bucket, principal, set_id)
                await self._commit_in_order(manifest)
        finally:
            self._own_sets.discard(set_id)
        log.info(
            "audit.set_replaced", by=principal.name, bucket=bucket, prefix=manifest.prefix, files=len(manifest.files)
        )
        return manifest

    async def finish_pending(self) -> None:
        """Finish committed sets in order; remove abandoned sets without a manifest."""
        async with self._finishing:
            own = set(self._own_sets)
            staged = await self._staging.staged_sets()
            others = {set_id: one for set_id, one in staged.items() if set_id not in own | self._own_sets}
            committed = {set_id: one.committed_at for set_id, one in others.items() if one.committed_at is not None}
            for set_id in sorted(committed, key=lambda one: committed[one]):
                await self._finish(set_id)
            for set_id in others.keys() - committed.keys():
                if others[set_id].newest < datetime.now(UTC) - ABANDONED_AFTER:
                    await self._staging.remove(set_id)
                    log.info("set.removed", set=set_id)
            self._may_be_pending = False

    async def finish_forever(self) -> None:
        """Finish interrupted sets periodically until cancelled."""
        await periodically(self.finish_pending, FINISH_INTERVAL_SECONDS, event="sets.not_looked_at", survives=Exception)

    async def _stage(self, body: Body, bucket: str, principal: Principal, set_id: str) -> Manifest:
        try:
            prefix, names = await self._staging.receive(body, set_id)
            _require_seen(principal, bucket, prefix)
            manifest = Manifest.of(set_id, bucket, prefix, names, at=datetime.now(UTC), by=principal.name)
            await refuse_hidden_prefix(self._store, bucket, prefix)
        except BaseException:
            await asyncio.shield(self._abandon(set_id))
            raise
        return manifest

    async def _commit_in_order(self, manifest: Manifest) -> None:
        """Commit a set after earlier overlapping sets are finished."""
        while True:
            if self._may_be_pending:
                await self.finish_pending()
            async with self._locks.of(manifest.bucket, manifest.prefix):
                if not self._may_be_pending:
                    await self._commit(manifest)
                    await self._apply_or_postpone(manifest)
                    return

    async def _commit(self, manifest: Manifest) -> None:
        try:
            await self._staging.commit(manifest)
        except BaseException:
            # the manifest may be written although the answer was lost
            self._may_be_pending = True
            await asyncio.shield(self._abandon(manifest.set_id))
            raise

    async def _apply_or_postpone(self, manifest: Manifest) -> None:
        try:
            await self._apply(manifest)
        except BaseException as error:
            self._may_be_pending = True
            if isinstance(error, Exception) and is_outage(error):
                raise Outage("the set is safe, and replaces the old one as soon as the object store is back") from error
            raise

    async def _apply(self, manifest: Manifest) -> None:
        """Do what a manifest promises; done twice is done once."""
        await replace(self._store, await self._staging.replacement(manifest))
        await self._staging.remove(manifest.set_id)

    async def _finish(self, set_id: str) -> None:
        try:
            manifest = await self._staging.manifest(set_id)
            async with self._locks.of(manifest.bucket, manifest.prefix):
                await self._apply(manifest)
        except ObjectGone as error:
            # finished by another process, or its files were deleted from the staging bucket: it cannot be completed
            log.warning("set.gone", set=set_id, reason=one_line(error))
            await self._staging.remove(set_id)
        except (Rejected, ValueError) as error:
            log.error("set.not_finished", set=set_id, reason=one_line(error))  # noqa: TRY400 - the reason suffices
        else:
            log.info("set.finished", set=set_id, bucket=manifest.bucket, prefix=manifest.prefix)

    async def _abandon(self, set_id: str) -> None:
        """Remove a failed set; what cannot be removed now is removed after `ABANDONED_AFTER`."""
        try:
            async with asyncio.timeout(ABANDON_SECONDS):
                await self._staging.remove(set_id)
        except (PenstockError, TimeoutError) as error:
            log.warning("set.left", set=set_id, reason=one_line(error))


def _require_seen(principal: Principal, bucket: str, prefix: str) -> None:
    if not principal.sees(bucket, prefix):
        raise Rejected("NO_SUCH_BUCKET", f"there is no {prefix!r} in {bucket} that you may replace: check both")

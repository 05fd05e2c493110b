"""Handle object changes, digests and load requests."""

from collections.abc import Sequence

from services.etl.core import diff
from services.etl.loading import Loader
from shared.bus import Received, Router
from shared.errors import Rejected
from shared.events import EtlLoaded, EtlRequested, ObjectChanged, ObjectHashed

router = Router("etl")

MAX_PENDING_LOADS = 1000


@router.on(ObjectChanged, publishes=[EtlLoaded])
async def load_objects(batch: Sequence[Received[ObjectChanged]], loader: Loader) -> list[EtlLoaded]:
    """Load each changed object into its dataset's table, or remove its rows."""
    files = [loader.file_to_load(received.event) for received in batch]
    newest = diff.latest_changes(one for one in files if one is not None)
    try:
        return await loader.load(newest)
    except Exception as error:
        # after a failed batch each record is retried alone, so the failing one arrives here before it is dead-lettered
        if len(newest) == 1:
            await loader.note_failure(newest[0], error)
        raise


@router.on(ObjectHashed)
async def save_digests(batch: Sequence[Received[ObjectHashed]], loader: Loader) -> None:
    """Save the digests of files and images; a fact only names the object."""
    object_keys = {(one.event.bucket, one.event.key) for one in batch}
    claims = {object_key: claim for object_key in object_keys if (claim := loader.datasets.claim(*object_key))}
    if claims:
        await loader.tables.save_digests(claims)


@router.on(EtlRequested)
async def request_load(batch: Sequence[Received[EtlRequested]], loader: Loader) -> None:
    """Enqueue the requested loads; reject requests while MAX_PENDING_LOADS are pending."""
    waiting = (await loader.loads.queue.counts()).get("pending", 0)
    for received in batch:
        if waiting >= MAX_PENDING_LOADS:
            reason = f"{waiting} loads wait already: ask again when they are done"
            received.reject(Rejected("TOO_MANY_LOADS", reason))
        elif received.event.dataset in loader.datasets.by_name:
            await loader.loads.request(received.event, why="requested")
            waiting += 1
        else:
            names = ", ".join(sorted(loader.datasets.by_name))
            reason = f"there is no dataset {received.event.dataset!r}; ask for one of {names}"
            received.reject(Rejected("UNKNOWN_DATASET", reason))

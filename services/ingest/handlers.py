"""Merge the notification lanes into facts, and enqueue requested sweeps."""

from collections.abc import Sequence

from services.ingest.core.notifications import Notification
from services.ingest.core.sweeps import MAX_PENDING_SWEEPS
from services.ingest.merging import Merger, Notifications, decode_record
from services.ingest.settings import IngestSettings
from shared.bus import Received, Router
from shared.errors import Rejected
from shared.events import ObjectChanged, SweepRequested
from shared.topics import MINIO_LIVE, MINIO_SAFE
from shared.work import WorkQueue

router = Router("ingest")

MAX_RECORDS = 8000
"""The most records that one fetch returns of both topics. The keys of a partition are spread over the bucket, so one
listing for all partitions reads a third of the entries that one listing per partition reads (measured)."""


@router.consumes(
    MINIO_LIVE,
    MINIO_SAFE,
    decode=decode_record,
    payload=Notification,
    max_records=MAX_RECORDS,
    publishes=[ObjectChanged],
)
async def merge_lanes(batch: Sequence[Received[Notifications]], merger: Merger) -> None:
    """Merge the two notification lanes into one fact per change; dead-letter malformed, forged and foreign records."""
    await merger.merge(batch)


@router.on(SweepRequested)
async def request_sweep(batch: Sequence[Received[SweepRequested]], sweeps: WorkQueue, settings: IngestSettings) -> None:
    """Enqueue requested sweeps once each; reject them while `MAX_PENDING_SWEEPS` are pending."""
    pending = (await sweeps.counts()).get("pending", 0)
    for received in batch:
        request = received.event
        if pending >= MAX_PENDING_SWEEPS:
            received.reject(Rejected("TOO_MANY_SWEEPS", f"{pending} sweeps are pending: retry when they are done"))
            continue
        if foreign := set(request.buckets) - set(settings.input_buckets):
            received.reject(
                Rejected(
                    "FOREIGN_BUCKET",
                    f"not an input bucket: {', '.join(sorted(foreign))!a}: name buckets of PENSTOCK_INPUT_BUCKETS",
                )
            )
            continue
        payload = {"buckets": list(request.buckets), "prefix": request.prefix, "grace": 0.0, "retell": request.retell}
        pending += await sweeps.add(request.sweep_id, payload, correlation_id=request.correlation_id)

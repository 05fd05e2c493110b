"""What ingest consumes, publishes, stores and needs."""

from typing import Final

from shared.events import ObjectChanged, SweepCompleted
from shared.manifest import READ_INPUTS, Grant, Manifest
from shared.topics import MINIO_LIVE, MINIO_SAFE, SWEEPS_REQUESTED

MANIFEST: Final = Manifest(
    name="ingest",
    consumes=(MINIO_LIVE, MINIO_SAFE, SWEEPS_REQUESTED),
    publishes=(ObjectChanged, SweepCompleted),
    grants=(
        *READ_INPUTS,
        Grant("buckets", "input_buckets", ("s3:GetBucketNotification", "s3:PutBucketNotification")),
        # sweeps compare versions
        Grant("buckets", "input_buckets", ("s3:GetBucketVersioning", "s3:ListBucketVersions")),
    ),
    migrations=f"{__package__}.migrations",
    stores="`ingest.objects`: the latest state of every key",
    queues=("sweep",),
    views={
        "objects": "every key that was ever seen, stored or removed",
        "sweeps": "every sweep: listed, missed, late, vanished",
    },
    # because it handles neither clients nor content, and without it nothing else works either
    ends_readers=True,
    alarms={"penstock_sweep_found_total": "`missed` or `vanished` grows: notifications are lost"},
)

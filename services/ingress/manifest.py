"""What the ingress consumes, publishes, stores and needs."""

from typing import Final

from shared.events import EtlRequested, SweepRequested
from shared.manifest import CHANGE_OBJECTS, READ_INPUTS, Grant, Manifest

MANIFEST: Final = Manifest(
    name="ingress",
    consumes_all_facts=True,
    publishes=(SweepRequested, EtlRequested),
    observes_lag=True,
    secrets=("TOKEN", "SECRET_KEY"),
    grants=(
        *READ_INPUTS,
        Grant("buckets", "output_buckets", ("s3:ListBucket",)),
        Grant("objects", "output_buckets", ("s3:GetObject", "s3:GetObjectVersion")),
        Grant("objects", "input_buckets", CHANGE_OBJECTS),
        Grant("buckets", "input_buckets", ("s3:ListBucketMultipartUploads",)),
        Grant("buckets", "staging_bucket", ("s3:ListBucket", "s3:ListBucketMultipartUploads")),
        Grant("objects", "staging_bucket", ("s3:GetObject", *CHANGE_OBJECTS)),
    ),
    # signs URLs for parts; their holders choose headers, so it may neither read, list nor delete
    more_users={"parts": (Grant("objects", "input_buckets", ("s3:PutObject",)),)},
    migrations=f"{__package__}.migrations",
    stores="`ingress.facts`: the timeline of all objects; tokens; webhooks",
    views={"timeline": "every fact about an object"},
    reads=("datasets", "digest_history", "digests", "loads", "objects", "rejects", "sweeps", "timeline", "work"),
    reads_made_views=True,
    alarms={"disk_used": "it nears `PENSTOCK_DISK_USAGE_THRESHOLD`: past it, uploads are refused"},
)

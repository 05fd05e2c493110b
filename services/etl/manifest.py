"""What etl consumes, publishes, stores and needs."""

from typing import Final

from shared.events import EtlCompleted, EtlLoaded
from shared.manifest import CHANGE_OBJECTS, READ_INPUTS, Grant, Manifest
from shared.topics import ETL_REQUESTED, OBJECTS_CHANGED, OBJECTS_HASHED

MANIFEST: Final = Manifest(
    name="etl",
    consumes=(OBJECTS_CHANGED, OBJECTS_HASHED, ETL_REQUESTED),
    publishes=(EtlLoaded, EtlCompleted),
    grants=(
        *READ_INPUTS,
        Grant("buckets", "etl_output_bucket", ("s3:ListBucket", "s3:ListBucketMultipartUploads")),
        Grant("objects", "etl_output_bucket", ("s3:GetObject", *CHANGE_OBJECTS)),
        Grant("objects", "seed_prefix", ("s3:PutObject",), when="etl_seed"),
    ),
    migrations=f"{__package__}.migrations",
    stores="`etl.<dataset>`: the rows of every file; `etl.sources`, `etl.images`, `etl.rejects`, `etl.loads`",
    queues=("etl.files", "etl.loads", "etl.exports"),
    views={
        "datasets": "every dataset: its definition, its state, and why it is refused",
        "sources": "every file and image that a dataset claims, and why one could not be loaded",
        "rejects": "every row or file that is in no table, with the reason",
        "loads": "every comparison of a bucket with its table, with its progress while it runs",
    },
    reads=("digest_history",),
    makes_tables="etl.datasets",
    made_views="every key of the dataset, its image joined to it",
    alarms={"penstock_etl_rejected_rows_total": "it grows: rows do not fit their table; see `api.rejects`"},
)

"""What the hasher consumes, publishes, stores and needs."""

from typing import Final

from shared.events import ObjectHashed
from shared.manifest import READ_INPUTS, Grant, Manifest
from shared.topics import OBJECTS_CHANGED

MANIFEST: Final = Manifest(
    name="hasher",
    consumes=(OBJECTS_CHANGED,),
    publishes=(ObjectHashed,),
    grants=(
        *READ_INPUTS,
        Grant(
            "objects",
            "hasher_deletable",
            ("s3:DeleteObject", "s3:DeleteObjectVersion"),
            when="hasher_delete_after",
        ),
    ),
    migrations=f"{__package__}.migrations",
    stores="`hasher.digests`: the digests of every stored version",
    queues=("digest",),
    views={
        "digests": "every current object",
        "digest_history": "every stored version that was ever looked at, removed and replaced ones too",
    },
    alarms={"penstock_hasher_mismatches_total": "it grows: an object differs from what its uploader declared"},
)

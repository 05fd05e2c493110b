"""The least rights of each service in the object store, as data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from shared.settings import Settings


@dataclass(frozen=True, slots=True)
class Grant:
    """Allows `actions` on the buckets of one side, or on the objects in them."""

    on: Literal["buckets", "objects"]
    side: Literal["input", "output", "staging", "tables", "seed", "deleted"]
    """`tables`: the bucket of etl's exported tables; `seed`: the prefix of its seed data; `deleted`: the prefixes whose
    objects the hasher deletes.
    """
    actions: tuple[str, ...]
    when: str = ""
    """The setting that enables the grant, such as `hasher_delete_after`; empty: always."""

    def statement(self, settings: Settings) -> dict[str, Any]:
        """Return the statement of an S3 policy."""
        buckets = {
            "input": settings.input_buckets,
            "output": settings.output_buckets,
            "staging": (settings.staging_bucket,),
            "tables": (getattr(settings, "etl_output_bucket", "processed-data"),),
            "seed": (getattr(settings, "seed_prefix", ""),),
            "deleted": _deleted(settings),
        }[self.side]
        tail = {"buckets": "", "objects": "*" if self.side in {"seed", "deleted"} else "/*"}[self.on]
        return {
            "Effect": "Allow",
            "Action": sorted(self.actions),
            "Resource": sorted(f"arn:aws:s3:::{bucket}{tail}" for bucket in buckets),
        }


def _deleted(settings: Settings) -> tuple[str, ...]:
    bucket = getattr(settings, "upload_bucket", "")
    return tuple(f"{bucket}/{prefix}" for prefix in getattr(settings, "hasher_delete_prefixes", ()))


_READ: Final = (
    # without ListBucket, a missing object answers 403 instead of 404
    Grant("buckets", "input", ("s3:ListBucket",)),
    Grant("objects", "input", ("s3:GetObject", "s3:GetObjectVersion")),
)
_CHANGE: Final = (
    "s3:PutObject",
    "s3:DeleteObject",
    "s3:AbortMultipartUpload",
    "s3:ListMultipartUploadParts",
)
POLICIES: Final[Mapping[str, tuple[Grant, ...]]] = {
    "ingest": (
        *_READ,
        Grant("buckets", "input", ("s3:GetBucketNotification", "s3:PutBucketNotification")),
        # sweeps compare versions
        Grant("buckets", "input", ("s3:GetBucketVersioning", "s3:ListBucketVersions")),
    ),
    "hasher": (
        *_READ,
        Grant("objects", "deleted", ("s3:DeleteObject", "s3:DeleteObjectVersion"), when="hasher_delete_after"),
    ),
    "etl": (
        *_READ,
        Grant("buckets", "tables", ("s3:ListBucket", "s3:ListBucketMultipartUploads")),
        Grant("objects", "tables", ("s3:GetObject", *_CHANGE)),
        Grant("objects", "seed", ("s3:PutObject",), when="etl_seed"),
    ),
    "ingress": (
        *_READ,
        Grant("buckets", "output", ("s3:ListBucket",)),
        Grant("objects", "output", ("s3:GetObject", "s3:GetObjectVersion")),
        Grant("objects", "input", _CHANGE),
        Grant("buckets", "input", ("s3:ListBucketMultipartUploads",)),
        Grant("buckets", "staging", ("s3:ListBucket", "s3:ListBucketMultipartUploads")),
        Grant("objects", "staging", ("s3:GetObject", *_CHANGE)),
    ),
    # signs the ingress's URLs for parts; their holders choose headers, so it may neither read, list nor delete
    "parts": (Grant("objects", "input", ("s3:PutObject",)),),
}
"""Grants by service, or by purpose for a second user of a service; the S3 user is `penstock-<name>`."""


_DENIED: Final = (
    # MinIO lets every user create access keys and change its own secret.
    {"Effect": "Deny", "Action": ["admin:*"]},
    # It issues temporary credentials (STS AssumeRole) to every user; those and earlier access keys may do nothing.
    {
        "Effect": "Deny",
        "Action": ["s3:*"],
        "Resource": ["arn:aws:s3:::*"],
        "Condition": {"StringEquals": {"aws:principaltype": ["AssumedRole"]}},
    },
)


def policy(service: str, settings: Settings) -> dict[str, Any]:
    """Return a service's policy document; a setting that `settings` lack counts as off."""
    grants = [grant for grant in POLICIES[service] if not grant.when or getattr(settings, grant.when, False)]
    return {"Version": "2012-10-17", "Statement": [*(grant.statement(settings) for grant in grants), *_DENIED]}

"""Settings of the hasher."""

from pydantic import Field

from shared.digests import DEFAULT_DIGESTS
from shared.settings import PrefixList, Settings, WordList


class HasherSettings(Settings):
    """Settings of the hasher; names in parentheses are those of the digest API that it replaces."""

    health_port: int = Field(8082, description="Port of probes and metrics; 0 takes a free one.")
    hasher_digests: WordList = Field(
        DEFAULT_DIGESTS,
        description="Digests of every object; the metadata penstock-digests of an object overrides them.",
    )
    hasher_large_bytes: int = Field(
        4 << 20,
        gt=0,
        description="Objects above this size become leased work, so they never block a partition.",
    )
    hasher_large_in_flight: int = Field(1, gt=0, description="Large objects read at a time by one process.")
    hasher_small_in_flight: int = Field(64, gt=0, description="Small objects read at a time by one process.")
    hasher_small_bytes_in_flight: int = Field(
        24 << 20, gt=0, description="Bytes of small objects held at a time by one process."
    )
    hasher_chunk_bytes: int = Field(1 << 20, gt=0, description="Bytes read at a time from a large object (CHUNK_SIZE).")
    hasher_lease_seconds: float = Field(
        30.0, gt=0, description="Seconds until another worker takes over a dead worker's object."
    )
    hasher_delete_after: bool = Field(
        default=False, description="Remove an upload of the digest API once it is hashed (DELETE_FILE); nothing else."
    )
    hasher_delete_prefixes: PrefixList = Field(
        ("uploads/",),
        description="Folders of PENSTOCK_UPLOAD_BUCKET with these uploads; set-up grants deletes only there.",
    )
    upload_bucket: str = Field("inbox", description="Same as for the ingress: bucket of uploads of the digest API.")
    hasher_delay: float = Field(
        0.0,
        ge=0,
        description="Seconds to wait before hashing, to observe the pending status (ARTIFITIAL_DELAY).",
    )
    hasher_wait_for_object: float = Field(
        0.5,
        ge=0,
        description="Seconds to wait for an object that is not stored yet (CELERY_WORKER_FILESYSTEM_TIMEOUT).",
    )
    hasher_verify_checksums: bool = Field(
        default=True,
        description="Verify the checksums that the store holds of an upload, besides those in its metadata.",
    )

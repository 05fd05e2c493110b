"""Settings of the ingress."""

import base64
import binascii
import ipaddress
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from shared.digests import DEFAULTS
from shared.errors import Rejected
from shared.settings import Settings, Words
from shared.storage.objects import LIMIT


class IngressSettings(Settings):
    """What the ingress needs beyond the stack; the names in brackets are those of the systems it replaces."""

    health_port: int = Field(8083, description="Port of probes and metrics; 0 takes a free one.")
    http_host: str = Field("127.0.0.1", description="Where HTTP is served.")
    http_port: int = Field(8080, description="Its port (API_PORT).")
    http_url: str = Field("http://127.0.0.1:8080", description="The address that users see, in links.")
    s3_public_endpoint: str = Field(
        "", description="Where browsers reach the object store, which takes large files directly; empty: as we do."
    )
    auth: Literal["tokens", "none"] = Field("tokens", description="none lets everybody in, on loopback alone.")
    token: SecretStr = Field(SecretStr(""), description="The first token; it may do everything.")
    secret_key: SecretStr = Field(SecretStr(""), description="Signs sessions: 32 bytes in base64.")
    rate_limit: float = Field(1000.0, gt=0, description="Requests a second that one token may send.")
    upload_bucket: str = Field("inbox", description="Where uploads without a bucket of their own go (STORAGE_ROOT).")
    hasher_digests: Words = Field(
        DEFAULTS, description="Digests of every object, as the hasher makes them; who asks for others gets these too."
    )
    max_upload_bytes: int = Field(LIMIT, gt=0, description="Bytes of the largest upload that is taken.")
    tus_expire_days: float = Field(
        7.0, gt=0, description="How long a resumable upload may take; the object store has to keep its parts as long."
    )
    max_form_parts: int = Field(1000, gt=0, description="Fields and files of one form.")
    uploads_in_flight: int = Field(64, gt=0, description="Uploads at a time; each may hold 5 MiB.")
    downloads_in_flight: int = Field(64, gt=0, description="Downloads at a time; each holds a connection to the store.")
    header_seconds: float = Field(10.0, gt=0, description="How long the head of a request may take to come.")
    stall_seconds: float = Field(30.0, gt=0, description="How long a request may send nothing before it is given up.")
    download_chunk_bytes: int = Field(
        256 << 10, gt=0, description="Bytes read at a time for a download (FILE_READ_BATCH_SIZE)."
    )
    disk_usage_threshold: float = Field(
        95.0, gt=0, le=100, description="Percent of the disk past which uploads are refused (DISK_USAGE_THRESHOLD)."
    )
    disk_path: Path = Field(Path(), description="A folder on the object store's disk, whose usage is watched.")
    facts_kept_days: float = Field(30.0, gt=0, description="How long the timeline remembers a fact.")
    data_streams: int = Field(
        4, gt=0, description="Answers read from tables at a time (/data, /stats); each has a connection to Postgres."
    )
    events_streams: int = Field(200, gt=0, description="Clients of /events at a time.")
    webhook_attempts: int = Field(8, gt=0, description="Tries of one delivery before the fact is put aside.")
    webhook_wait_seconds: float = Field(
        1.0, gt=0, description="Wait after a failed delivery; each further one waits four times as long, up to an hour."
    )
    webhook_allow_private: bool = Field(
        default=False, description="Lets webhooks lead into this machine and its network: for trials only."
    )

    @model_validator(mode="after")
    def _refuse_open_doors(self) -> Self:
        if self.auth == "none" and not _is_loopback(self.http_host):
            raise ValueError(
                f"PENSTOCK_AUTH=none with PENSTOCK_HTTP_HOST={self.http_host} would let in everybody who reaches this "
                "machine; bind to 127.0.0.1, or leave PENSTOCK_AUTH out"
            )
        return self

    def model_post_init(self, context: Any, /) -> None:
        """Refuse what the ingress would write in vain."""
        super().model_post_init(context)
        if self.upload_bucket not in self.input_buckets:
            raise ValueError(f"PENSTOCK_UPLOAD_BUCKET={self.upload_bucket} is not among PENSTOCK_INPUT_BUCKETS")

    def require_secrets(self) -> None:
        """Refuse to open a door that nobody could lock."""
        if self.auth == "tokens" and not (self.token.get_secret_value() and self.key_bytes):
            raise Rejected("SETTINGS", "no PENSTOCK_TOKEN or no PENSTOCK_SECRET_KEY: `make up` makes both in .env")

    @property
    def key_bytes(self) -> bytes:
        """The key that signs sessions; empty when it is no base64."""
        try:
            return base64.b64decode(self.secret_key.get_secret_value(), validate=True)
        except binascii.Error:
            return b""

    @property
    def store_url(self) -> str:
        """The object store's address as browsers know it."""
        return (self.s3_public_endpoint or self.s3_endpoint).rstrip("/")

    @property
    def is_https(self) -> bool:
        """Whether users come through TLS."""
        return urlsplit(self.http_url).scheme == "https"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

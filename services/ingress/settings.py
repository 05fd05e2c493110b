"""Settings of the ingress."""

import base64
import binascii
import ipaddress
from pathlib import Path
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from shared.digests import DEFAULT_DIGESTS
from shared.errors import Rejected
from shared.settings import Settings, WordList
from shared.storage.objects import DEFAULT_MAX_BYTES

MIN_TOKEN: Final = 32
"""Characters of the first token."""
MIN_KEY_BYTES: Final = 32
MIN_DISTINCT: Final = 8
"""Different characters, or bytes, of a secret: random ones of that length have more, a repeated word has fewer."""


class IngressSettings(Settings):
    """What the ingress needs beyond the stack; the names in brackets are those of the systems it replaces."""

    health_port: int = Field(8083, description="Port of probes and metrics; 0 takes a free one.")
    http_host: str = Field("127.0.0.1", description="Address that HTTP listens on.")
    http_port: int = Field(8080, description="Port that HTTP listens on (API_PORT).")
    http_url: str = Field("http://127.0.0.1:8080", description="URL of the ingress as users reach it; used in links.")
    s3_public_endpoint: str = Field(
        "",
        description="URL of the object store for browsers, which send it large files; empty: the services' URL.",
    )
    s3_access_key_parts: str = Field(
        "penstock-parts", description="S3 user that signs the presigned URLs of parts; it may only write."
    )
    s3_secret_key_parts: SecretStr = Field(SecretStr(""), description="Secret of this S3 user.")
    auth: Literal["tokens", "none"] = Field(
        "tokens", description="`none` disables authentication; allowed only on a loopback address."
    )
    token: SecretStr = Field(
        SecretStr(""), description="The first token, at least 32 random characters; it has all rights."
    )
    secret_key: SecretStr = Field(SecretStr(""), description="Signs sessions: at least 32 random bytes in base64.")
    anonymous_read_buckets: WordList = Field(
        (),
        description="Buckets whose objects can be read without a token by GET /objects/<bucket>/<key>; nothing else of "
        "them is public.",
    )
    trusted_proxies: WordList = Field(
        (),
        description="Addresses or networks of reverse proxies whose X-Forwarded-For header is trusted; from any other "
        "address it is ignored.",
    )
    rate_limit: float = Field(1000.0, gt=0, description="Requests a second that one token may send.")
    upload_bucket: str = Field("inbox", description="Bucket of uploads that name no bucket (STORAGE_ROOT).")
    hasher_digests: WordList = Field(
        DEFAULT_DIGESTS,
        description="Same as for the hasher: an upload that requests other digests gets these too.",
    )
    max_upload_bytes: int = Field(DEFAULT_MAX_BYTES, gt=0, description="Maximum bytes of an upload.")
    tus_expire_days: float = Field(
        7.0,
        gt=0,
        description="Days until a resumable upload expires; the object store must retain parts at least as long.",
    )
    max_form_parts: int = Field(10_000, gt=0, description="Maximum fields and files of one form.")
    uploads_in_flight: int = Field(64, gt=0, description="Concurrent uploads; each may hold 5 MiB.")
    downloads_in_flight: int = Field(
        64, gt=0, description="Concurrent downloads; each holds a connection to the store."
    )
    max_connections: int = Field(1000, gt=0, description="Concurrent client connections.")
    min_rate_bytes: int = Field(
        1024, ge=0, description="Minimum average rate of an upload or a download, in bytes a second; 0 disables it."
    )
    min_rate_grace_seconds: float = Field(
        30.0, gt=0, description="Seconds over which that average is taken, and for which a client may be idle."
    )
    header_seconds: float = Field(10.0, gt=0, description="Seconds within which the headers of a request must arrive.")
    stall_seconds: float = Field(30.0, gt=0, description="Seconds without data after which a request is aborted.")
    download_chunk_bytes: int = Field(
        256 << 10, gt=0, description="Bytes per read of a download (FILE_READ_BATCH_SIZE)."
    )
    disk_usage_threshold: float = Field(
        95.0, gt=0, le=100, description="Disk usage in percent above which uploads are refused (DISK_USAGE_THRESHOLD)."
    )
    disk_path: Path = Field(
        Path(), description="Folder on the object store's disk, whose usage is checked; it may be empty."
    )
    facts_kept_days: float = Field(30.0, gt=0, description="Days for which the timeline stores a fact.")
    load_wait_seconds: float = Field(
        5.0,
        ge=0,
        description="Seconds that POST /data waits for its load, so that the next GET /data shows the result.",
    )
    data_streams: int = Field(
        4, gt=0, description="Concurrent answers from tables (/data, /stats); each holds a Postgres connection."
    )
    events_streams: int = Field(200, gt=0, description="Concurrent clients of /events.")
    webhook_attempts: int = Field(8, gt=0, description="Attempts of a delivery before the fact is recorded as failed.")
    webhook_wait_seconds: float = Field(
        1.0,
        gt=0,
        description="Seconds until the first retry of a delivery; each later wait is four times as long, up to 1 h.",
    )
    webhook_allow_private: bool = Field(
        default=False, description="Allow webhooks to addresses of this machine and its network: for tests only."
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
        for one in self.trusted_proxies:
            _require_network(one)
        if foreign := set(self.anonymous_read_buckets) - {*self.input_buckets, *self.output_buckets}:
            raise ValueError(f"PENSTOCK_ANONYMOUS_READ_BUCKETS holds {min(foreign)}: name input or output buckets")
        if self.upload_bucket not in self.input_buckets:
            raise ValueError(f"PENSTOCK_UPLOAD_BUCKET={self.upload_bucket} is not among PENSTOCK_INPUT_BUCKETS")

    def require_secrets(self) -> None:
        """Refuse to start with secrets that are missing or can be guessed.

        Raises Rejected: SETTINGS, with the variable, the reason and the fix.
        """
        token, key = self.token.get_secret_value(), self.secret_key.get_secret_value()
        if self.auth == "tokens" and not (token and key):
            raise Rejected("SETTINGS", "no PENSTOCK_TOKEN or no PENSTOCK_SECRET_KEY: `make up` makes both in .env")
        if token:
            _require_random("PENSTOCK_TOKEN", token, MIN_TOKEN, "characters")
        if key:
            _require_random("PENSTOCK_SECRET_KEY", self.key_bytes, MIN_KEY_BYTES, "bytes in base64")

    def require_parts_user(self) -> None:
        """Refuse to start without the S3 user that presigns part URLs, which the store would otherwise refuse.

        Raises Rejected: SETTINGS.
        """
        if not self.s3_secret_key_parts.get_secret_value():
            reason = "no PENSTOCK_S3_SECRET_KEY_PARTS, the secret of the S3 user that signs parts of uploads"
            raise Rejected("SETTINGS", f"{reason}: `make up` makes it in .env")

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
        """Return whether users connect through TLS."""
        return urlsplit(self.http_url).scheme == "https"


def _require_random(variable: str, secret: str | bytes, least: int, unit: str) -> None:
    """Refuse a secret that is too short, or that repeats a few characters."""
    different = len(set(secret))
    if len(secret) < least or different < MIN_DISTINCT:
        reason = f"it has {len(secret)} {unit}, {different} of them different"
        raise Rejected("SETTINGS", f"{variable} can be guessed ({reason}): use {least} random ones, as `make up` does")


def _require_network(text: str) -> None:
    try:
        every = ipaddress.ip_network(text, strict=False).prefixlen == 0
    except ValueError:
        raise ValueError(f"PENSTOCK_TRUSTED_PROXIES holds {text}: name the address or network of a proxy") from None
    if every:
        raise ValueError(f"PENSTOCK_TRUSTED_PROXIES holds {text}, which is every address: name that of the proxy")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

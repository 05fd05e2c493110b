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
    http_host: str = Field("127.0.0.1", description="Where HTTP is served.")
    http_port: int = Field(8080, description="Its port (API_PORT).")
    http_url: str = Field("http://127.0.0.1:8080", description="The address that users see, in links.")
    s3_public_endpoint: str = Field(
        "", description="Where browsers reach the object store, which takes large files directly; empty: as we do."
    )
    s3_access_key_parts: str = Field(
        "penstock-parts", description="The S3 user that signs addresses for parts of uploads; it may write and no more."
    )
    s3_secret_key_parts: SecretStr = Field(SecretStr(""), description="Its secret.")
    auth: Literal["tokens", "none"] = Field(
        "tokens", description="`none` disables authentication; allowed only on a loopback address."
    )
    token: SecretStr = Field(
        SecretStr(""), description="The first token, at least 32 random characters; it may do everything."
    )
    secret_key: SecretStr = Field(SecretStr(""), description="Signs sessions: at least 32 random bytes in base64.")
    anonymous_read_buckets: WordList = Field(
        (),
        description="Buckets whose objects everybody may read by GET /objects/<bucket>/<key>, without a token; nothing "
        "else of them is open.",
    )
    trusted_proxies: WordList = Field(
        (),
        description="Addresses or networks of reverse proxies whose X-Forwarded-For names the client; else it is "
        "ignored.",
    )
    rate_limit: float = Field(1000.0, gt=0, description="Requests a second that one token may send.")
    upload_bucket: str = Field("inbox", description="Where uploads without a bucket of their own go (STORAGE_ROOT).")
    hasher_digests: WordList = Field(
        DEFAULT_DIGESTS,
        description="Digests of every object, as the hasher makes them; who asks for others gets these too.",
    )
    max_upload_bytes: int = Field(DEFAULT_MAX_BYTES, gt=0, description="Bytes of the largest upload that is taken.")
    tus_expire_days: float = Field(
        7.0, gt=0, description="How long a resumable upload may take; the object store has to keep its parts as long."
    )
    max_form_parts: int = Field(10_000, gt=0, description="Fields and files of one form.")
    uploads_in_flight: int = Field(64, gt=0, description="Uploads at a time; each may hold 5 MiB.")
    downloads_in_flight: int = Field(64, gt=0, description="Downloads at a time; each holds a connection to the store.")
    max_connections: int = Field(1000, gt=0, description="Connections of clients at a time.")
    min_rate_bytes: int = Field(
        1024, ge=0, description="Bytes a second that an upload or a download moves at least, on average; 0 takes any."
    )
    min_rate_grace_seconds: float = Field(
        30.0, gt=0, description="Over how many seconds that average is taken, and how long a client may move nothing."
    )
    header_seconds: float = Field(10.0, gt=0, description="How long the head of a request may take to come.")
    stall_seconds: float = Field(30.0, gt=0, description="How long a request may send nothing before it is given up.")
    download_chunk_bytes: int = Field(
        256 << 10, gt=0, description="Bytes read at a time for a download (FILE_READ_BATCH_SIZE)."
    )
    disk_usage_threshold: float = Field(
        95.0, gt=0, le=100, description="Percent of the disk past which uploads are refused (DISK_USAGE_THRESHOLD)."
    )
    disk_path: Path = Field(
        Path(), description="A folder on the object store's disk, whose usage is watched; an empty one will do."
    )
    facts_kept_days: float = Field(30.0, gt=0, description="How long the timeline remembers a fact.")
    load_wait_seconds: float = Field(
        5.0, ge=0, description="How long POST /data waits for its load, so that the next GET /data shows it."
    )
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
    def _refuse_public_access_without_auth(self) -> Self:
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

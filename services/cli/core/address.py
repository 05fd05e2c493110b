"""Object addresses `s3://bucket/key`, and the key of a local file."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from services.cli.core.usage import UsageError
from shared.errors import Rejected
from shared.field_rules import MAX_KEY_BYTES
from shared.text import require_safe_key, require_unaltered_key, visible

SCHEME = "s3://"


@dataclass(frozen=True, slots=True)
class Address:
    """A bucket and a key or prefix in it; the key is opaque and never normalized."""

    bucket: str
    key: str = ""

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}"

    def join(self, name: str) -> "Address":
        """Return the address of `name` in this folder."""
        folder = self.key if not self.key or self.key.endswith("/") else f"{self.key}/"
        return Address(self.bucket, folder + name)


def parse(text: str) -> Address:
    """Read `s3://bucket/key`; everything after the bucket's slash is the key, unchanged.

    Raises:
        UsageError: `text` has no scheme or no bucket.

    """
    bucket, _, key = text.removeprefix(SCHEME).partition("/")
    if not text.startswith(SCHEME) or not bucket:
        raise UsageError(f"{visible(text, 80)!r} is not an object address: write s3://bucket/key")
    return Address(bucket, key)


def parse_object(text: str) -> Address:
    """Read the address of one object.

    Raises:
        UsageError: `text` is invalid or has no key.

    """
    address = parse(text)
    if not address.key:
        raise UsageError(f"{address} is a bucket: add the object's key")
    return address


def require_valid_key(address: Address) -> Address:
    """Return `address`.

    Raises:
        Rejected: its key is unsafe to print, is not UTF-8, would be altered by MinIO, or is too long for S3.

    """
    key = require_unaltered_key(require_safe_key(address.key))
    if len(key.encode()) > MAX_KEY_BYTES:
        raise Rejected("KEY_TOO_LONG", f"{visible(str(address), 80)} has a key over {MAX_KEY_BYTES} bytes: shorten it")
    return address


def relative_name(source: str, file: Path) -> str:
    """Return the name of `file` below the target, as `cp -r` does; a source `folder/` omits the folder's own name."""
    root = Path(source)
    if file == root:
        return file.name
    inner = PurePosixPath(file.relative_to(root).as_posix())
    return str(inner) if source.endswith("/") or root.name in {"", ".", ".."} else f"{root.name}/{inner}"

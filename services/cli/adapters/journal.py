"""What is known of an upload that was interrupted: one small file per command line, made of JSON lines."""

import fcntl
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from services.cli.core.address import Address
from shared.errors import Rejected


@dataclass(frozen=True, slots=True)
class Stamp:
    """A file's size in bytes and its time of change in nanoseconds: equal stamps, equal file."""

    size: int
    mtime_ns: int

    @staticmethod
    def of(found: os.stat_result) -> "Stamp":
        """Take the stamp of a file."""
        return Stamp(found.st_size, found.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class Entry:
    """An object that is stored (`etag`) or whose multipart upload is open (`upload_id`)."""

    bucket: str
    key: str
    stamp: Stamp
    etag: str = ""
    upload_id: str = ""


class Journal:
    """Remembers each stored object and open upload of one command line; gone once everything is stored.

    Raises:
        Rejected: the same command line runs already.

    """

    def __init__(self, folder: Path, words: Sequence[str]) -> None:
        name = hashlib.sha256("\0".join(words).encode("utf-8", "surrogateescape")).hexdigest()[:24]
        self._path = folder / f"{name}.jsonl"
        self._entries: dict[Address, Entry] = {}

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = open(self._path, "a+", encoding="utf-8", opener=_private)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise Rejected("BUSY", "put: the same upload runs already; wait for it, or stop it first") from None
        self._file.seek(0)
        lines = self._file.read().splitlines()
        self._entries = {Address(one.bucket, one.key): one for line in lines if (one := _entry(line))}
        self._file.write("\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to resume."""
        return not self._entries

    def find(self, address: Address) -> Entry | None:
        """Return what is known of this object."""
        return self._entries.get(address)

    def note(self, entry: Entry) -> None:
        """Remember an entry; it is in the file before this returns, so a killed process forgets nothing."""
        self._entries[Address(entry.bucket, entry.key)] = entry
        self._file.write(json.dumps(asdict(entry)) + "\n")
        self._file.flush()

    def forget_all(self) -> None:
        """Everything is stored: remove the file."""
        self._path.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    """Open a file that, if it is new, is its owner's alone: it names what is being uploaded."""
    return os.open(path, flags, 0o600)


def _entry(line: str) -> Entry | None:
    """Read a line; a process killed while writing leaves half a one."""
    try:
        known: dict[str, Any] = json.loads(line)
        return Entry(**{**known, "stamp": Stamp(**known["stamp"])})
    except (ValueError, TypeError, KeyError):
        return None

"""Journals of uploads, to resume interrupted ones: one file of JSON lines per command line."""

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
    """Size in bytes and modification time in nanoseconds; a file with the same stamp is unchanged."""

    size: int
    mtime_ns: int

    @staticmethod
    def of(status: os.stat_result) -> "Stamp":
        """Return the stamp of a file's status."""
        return Stamp(status.st_size, status.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class Entry:
    """An object that is stored (`etag`) or whose multipart upload is open (`upload_id`)."""

    bucket: str
    key: str
    stamp: Stamp
    etag: str = ""
    upload_id: str = ""


class Journal:
    """Records the stored objects and open uploads of one command line; removed once all are stored.

    Raises:
        Rejected: BUSY if the same command line is running.

    """

    def __init__(self, folder: Path, command: Sequence[str]) -> None:
        name = hashlib.sha256("\0".join(command).encode("utf-8", "surrogateescape")).hexdigest()[:24]
        self._path = folder / f"{name}.jsonl"
        self._entries: dict[Address, Entry] = {}

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = open(self._path, "a+", encoding="utf-8", opener=_private)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise Rejected("BUSY", "put: the same upload is running: wait for it or stop it") from None
        self._file.seek(0)
        lines = self._file.read().splitlines()
        self._entries = {Address(one.bucket, one.key): one for line in lines if (one := _parse(line))}
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
        """Return the entry of an object, if any."""
        return self._entries.get(address)

    def record(self, entry: Entry) -> None:
        """Append an entry; it is in the file before this returns, so that it survives a killed process."""
        self._entries[Address(entry.bucket, entry.key)] = entry
        self._file.write(json.dumps(asdict(entry)) + "\n")
        self._file.flush()

    def remove(self) -> None:
        """Remove the file."""
        self._path.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    """Open a file; create it readable by its owner only, because it names the uploaded files."""
    return os.open(path, flags, 0o600)


def _parse(line: str) -> Entry | None:
    """Parse a line; return None for the partial line of a process killed while writing it."""
    try:
        fields: dict[str, Any] = json.loads(line)
        return Entry(**{**fields, "stamp": Stamp(**fields["stamp"])})
    except (ValueError, TypeError, KeyError):
        return None

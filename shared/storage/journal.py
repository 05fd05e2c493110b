"""Journal of open multipart uploads on local disk, so that the parts of a killed process are removed later.

Each process locks its own file while it lives; a file that can be locked belongs to a dead process. A line is written
before an upload begins, when its id is known, before it is completed, and when it has ended.
"""

import fcntl
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

from shared.storage.objects import ObjectRef

UPLOADS_FOLDER: Final = "uploads"
MAX_JOURNAL_BYTES: Final = 64 << 10
"""A journal of this size without open entries is truncated."""

_Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AbandonedUpload:
    """An open upload of a dead process; without an id, the upload may or may not exist in the store."""

    ref: ObjectRef
    upload_id: str
    begun_at: datetime
    is_in_doubt: bool
    """Whether completion was requested without a known answer, so that the object may exist."""


class UploadJournal:
    """The journal of one process; the file is created with the first upload."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / UPLOADS_FOLDER
        self._file: IO[str] | None = None
        self._open: dict[str, _Entry] = {}
        self._left: set[str] = set()

    def opening(self, ref: ObjectRef) -> str:
        """Note an upload before it begins; return the id of its entry."""
        entry = uuid.uuid4().hex
        self._note(entry, {"bucket": ref.bucket, "key": ref.key, "begun_at": datetime.now(UTC).isoformat()})
        return entry

    def opened(self, entry: str, upload_id: str) -> None:
        """Note the upload id from the store."""
        self._note(entry, {"upload_id": upload_id})

    def completing(self, entry: str) -> None:
        """Note an upload before the completion request is sent."""
        self._note(entry, {"is_in_doubt": True})

    def aborted(self, entry: str) -> None:
        """Note that the parts are gone; if the object may exist, leave the entry for `abandoned`."""
        self.left(entry) if self._open[entry].get("is_in_doubt") else self.closed(entry)

    def left(self, entry: str) -> None:
        """Leave an upload that could not be removed for the next call of `abandoned`."""
        self._left.add(entry)

    def closed(self, entry: str) -> None:
        """Note that the upload has ended and needs no cleanup."""
        self._note(entry, {"closed": True})
        self._left.discard(entry)
        del self._open[entry]
        if self._file is not None and not self._open and self._file.tell() > MAX_JOURNAL_BYTES:
            self._file.seek(0)
            self._file.truncate()

    def close(self) -> None:
        """Close the file; the next `abandoned` of any process removes it once no entry is open."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def abandoned(self) -> Iterator[tuple[list[AbandonedUpload], Callable[[], None]]]:
        """Yield abandoned uploads of this and of dead processes; call the callback of each list after their removal."""
        for entry in tuple(self._left):
            yield [_abandoned(self._open[entry])], partial(self.closed, entry)
        for path in sorted(self._folder.glob("*.jsonl")) if self._folder.is_dir() else ():
            with suppress(OSError), path.open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield _still_open(file), partial(path.unlink, missing_ok=True)

    def _note(self, entry: str, fields: dict[str, Any]) -> None:
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{uuid.uuid4().hex}.new"
            self._file = path.open("w")
            fcntl.flock(self._file, fcntl.LOCK_EX)
            path.rename(path.with_suffix(".jsonl"))  # the final name appears only once the file is locked
        self._open.setdefault(entry, {}).update(fields)
        self._file.write(json.dumps({"entry": entry, **fields}) + "\n")
        self._file.flush()


def _still_open(file: IO[str]) -> list[AbandonedUpload]:
    entries: dict[str, _Entry] = {}
    for text in file:
        with suppress(ValueError):  # the process was killed while writing its last line
            line = json.loads(text)
            entries.setdefault(line["entry"], {}).update(line)
    return [_abandoned(one) for one in entries.values() if not one.get("closed")]


def _abandoned(entry: _Entry) -> AbandonedUpload:
    ref = ObjectRef(entry["bucket"], entry["key"])
    return AbandonedUpload(
        ref, entry.get("upload_id", ""), datetime.fromisoformat(entry["begun_at"]), bool(entry.get("is_in_doubt"))
    )

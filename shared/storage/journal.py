"""Which multipart uploads a process has open, on its own disk, so that the parts of a killed one are removed.

One file per process, locked as long as that process lives: a file that can be locked was left by a dead one. A line
goes in before an upload is begun, one when its id is known, one before it is completed, one when it has ended.
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
"""A journal without open entries is begun anew past this."""

_Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AbandonedUpload:
    """An upload that a dead process left; without an id it may or may not have been begun."""

    ref: ObjectRef
    upload_id: str
    begun_at: datetime
    is_in_doubt: bool
    """Its completion was asked for, and the answer is not known."""


class UploadJournal:
    """The journal of one process; nothing is written before the first upload."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / UPLOADS_FOLDER
        self._file: IO[str] | None = None
        self._open: dict[str, _Entry] = {}
        self._left: set[str] = set()

    def opening(self, ref: ObjectRef) -> str:
        """Note an upload that is about to begin; return the name of its entry."""
        entry = uuid.uuid4().hex
        self._note(entry, {"bucket": ref.bucket, "key": ref.key, "begun_at": datetime.now(UTC).isoformat()})
        return entry

    def opened(self, entry: str, upload_id: str) -> None:
        """Note the id that the store gave it."""
        self._note(entry, {"upload_id": upload_id})

    def completing(self, entry: str) -> None:
        """Note that the store is about to be asked for the object."""
        self._note(entry, {"is_in_doubt": True})

    def aborted(self, entry: str) -> None:
        """Note that its parts are gone; whether there is an object is for whoever next looks."""
        self.left(entry) if self._open[entry].get("is_in_doubt") else self.closed(entry)

    def left(self, entry: str) -> None:
        """Leave an upload that could not be removed to whoever next looks for abandoned ones."""
        self._left.add(entry)

    def closed(self, entry: str) -> None:
        """Note that nothing of it is left."""
        self._note(entry, {"closed": True})
        self._left.discard(entry)
        del self._open[entry]
        if self._file is not None and not self._open and self._file.tell() > MAX_JOURNAL_BYTES:
            self._file.seek(0)
            self._file.truncate()

    def close(self) -> None:
        """Let go of the file; it is removed by whoever next finds all its entries closed."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def abandoned(self) -> Iterator[tuple[list[AbandonedUpload], Callable[[], None]]]:
        """Give what this process left, and what each dead one did, with what to call once it is removed."""
        for entry in tuple(self._left):
            yield [_abandoned(self._open[entry])], partial(self.closed, entry)
        for path in sorted(self._folder.glob("*.jsonl")) if self._folder.is_dir() else ():
            with suppress(OSError), path.open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield _still_open(file), partial(path.unlink, missing_ok=True)

    def _note(self, entry: str, said: dict[str, Any]) -> None:
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{uuid.uuid4().hex}.new"
            self._file = path.open("w")
            fcntl.flock(self._file, fcntl.LOCK_EX)
            path.rename(path.with_suffix(".jsonl"))  # under its name it is never without its lock
        self._open.setdefault(entry, {}).update(said)
        self._file.write(json.dumps({"entry": entry, **said}) + "\n")
        self._file.flush()


def _still_open(file: IO[str]) -> list[AbandonedUpload]:
    entries: dict[str, _Entry] = {}
    for text in file:
        with suppress(ValueError):  # the last line of a process that was killed in the middle of it
            line = json.loads(text)
            entries.setdefault(line["entry"], {}).update(line)
    return [_abandoned(one) for one in entries.values() if not one.get("closed")]


def _abandoned(entry: _Entry) -> AbandonedUpload:
    ref = ObjectRef(entry["bucket"], entry["key"])
    return AbandonedUpload(
        ref, entry.get("upload_id", ""), datetime.fromisoformat(entry["begun_at"]), bool(entry.get("is_in_doubt"))
    )

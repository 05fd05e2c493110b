"""Which multipart uploads a process has open, on its own disk, so that the parts of a killed one are removed.

One file per process, locked as long as that process lives: a file that can be locked was left by a dead one. A line
goes in before an upload is begun, one when its id is known, one when it has ended.
"""

import fcntl
import json
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

from shared.storage.objects import ObjectRef

FOLDER: Final = "uploads"


@dataclass(frozen=True, slots=True)
class Abandoned:
    """An upload that a dead process left; without an id it may or may not have been begun."""

    ref: ObjectRef
    upload_id: str
    begun_at: datetime


class OpenUploads:
    """The journal of one process; nothing is written before the first upload."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / FOLDER
        self._file: IO[str] | None = None

    def opening(self, ref: ObjectRef) -> str:
        """Note an upload that is about to begin; return the name of its entry."""
        entry = uuid.uuid4().hex
        at = datetime.now(UTC).isoformat()
        self._note({"entry": entry, "bucket": ref.bucket, "key": ref.key, "begun_at": at})
        return entry

    def opened(self, entry: str, upload_id: str) -> None:
        """Note the id that the store gave it."""
        self._note({"entry": entry, "upload_id": upload_id})

    def closed(self, entry: str) -> None:
        """Note that nothing of it is left."""
        self._note({"entry": entry, "closed": True})

    def close(self) -> None:
        """Let go of the file; it is removed by whoever next finds all its entries closed."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def abandoned(self) -> Iterator[tuple[Path, list[Abandoned]]]:
        """Give each dead process's file with the uploads it left; the caller removes the file when they are gone."""
        for path in sorted(self._folder.glob("*.jsonl")) if self._folder.is_dir() else ():
            with suppress(OSError), path.open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield path, _open_entries(file)

    def _note(self, line: dict[str, Any]) -> None:
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{uuid.uuid4().hex}.new"
            self._file = path.open("w")
            fcntl.flock(self._file, fcntl.LOCK_EX)
            path.rename(path.with_suffix(".jsonl"))  # under its name it is never without its lock
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


def _open_entries(file: IO[str]) -> list[Abandoned]:
    entries: dict[str, dict[str, Any]] = {}
    for text in file:
        with suppress(ValueError):  # the last line of a process that was killed in the middle of it
            line = json.loads(text)
            entries.setdefault(line["entry"], {}).update(line)
    return [
        Abandoned(
            ObjectRef(one["bucket"], one["key"]),
            one.get("upload_id", ""),
            datetime.fromisoformat(one["begun_at"]),
        )
        for one in entries.values()
        if not one.get("closed")
    ]

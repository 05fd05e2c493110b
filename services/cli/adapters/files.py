"""Local files: which there are, and their bytes; what cannot be read is refused by name."""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from services.cli.adapters.journal import Stamp
from services.cli.core.address import name_in
from services.cli.core.usage import WrongUsage
from shared.errors import Rejected
from shared.text import visible


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A regular file and the name it gets below the target."""

    path: Path
    name: str
    size: int


def find(sources: tuple[str, ...]) -> Iterator[LocalFile]:
    """Yield the regular files of `sources`, folders walked; links to folders, pipes and devices are left out.

    Raises:
        WrongUsage: a source is not there.

    """
    for source in sources:
        root = Path(source)
        if root.is_dir():
            yield from _walk(source, root)
        elif root.is_file():
            yield LocalFile(root, name_in(source, root), root.stat().st_size)
        else:
            why = "is neither a file nor a folder" if root.exists() else "is not there"
            raise WrongUsage(f"put: {visible(source)} {why}; check the name")


def _walk(source: str, root: Path) -> Iterator[LocalFile]:
    for folder, inner, names in os.walk(root, onerror=_refuse):
        inner.sort()
        for path in (Path(folder, name) for name in sorted(names)):
            if stat.S_ISREG((found := path.stat()).st_mode if path.exists() else 0):
                yield LocalFile(path, name_in(source, path), found.st_size)


def stamp_of(path: Path) -> Stamp:
    """Take a file's stamp.

    Raises:
        Rejected: it cannot be read.

    """
    try:
        return Stamp.of(path.stat())
    except OSError as error:
        raise _unreadable(path, error) from error


def read(path: Path, start: int, size: int) -> bytes:
    """Return `size` bytes from `start`.

    Raises:
        Rejected: it cannot be read, or has become shorter.

    """
    try:
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(size)
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(data) != size:
        raise changed(path)
    return data


def digest(path: Path, algorithm: str) -> str:
    """Return the hex digest of a whole file.

    Raises:
        Rejected: it cannot be read.

    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def changed(path: Path) -> Rejected:
    """Say that a file is still being written."""
    return Rejected("FILE_CHANGED", f"{visible(str(path))} changed while it was read; put it again once it is still")


def _refuse(error: OSError) -> None:
    raise _unreadable(Path(str(error.filename)), error)


def _unreadable(path: Path, error: OSError) -> Rejected:
    return Rejected("UNREADABLE", f"{visible(str(path))}: {error.strerror or error}; check its permissions")

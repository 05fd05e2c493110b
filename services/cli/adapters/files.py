"""Local files: finding and reading them; an unreadable file raises Rejected with its name."""

import hashlib
import os
import stat
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import aiofiles

from services.cli.adapters.journal import Stamp
from services.cli.core.address import relative_name
from services.cli.core.usage import UsageError
from shared.errors import Rejected
from shared.text import visible


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A regular file and its name below the target."""

    path: Path
    name: str
    size: int


def find(sources: tuple[str, ...]) -> Iterator[LocalFile]:
    """Yield the regular files of `sources` and of their folders; skip links to folders, pipes and devices.

    Raises:
        UsageError: a source does not exist.

    """
    for source in sources:
        root = Path(source)
        if root.is_dir():
            yield from _walk(source, root)
        elif root.is_file():
            yield LocalFile(root, relative_name(source, root), root.stat().st_size)
        else:
            problem = "is neither a file nor a folder" if root.exists() else "does not exist"
            raise UsageError(f"put: {visible(source)} {problem}: check the name")


def _walk(source: str, root: Path) -> Iterator[LocalFile]:
    for folder, inner, names in os.walk(root, onerror=_raise_unreadable):
        inner.sort()
        for path in (Path(folder, name) for name in sorted(names)):
            if stat.S_ISREG((found := path.stat()).st_mode if path.exists() else 0):
                yield LocalFile(path, relative_name(source, path), found.st_size)


def stamp_of(path: Path) -> Stamp:
    """Return the stamp of a file.

    Raises:
        Rejected: UNREADABLE.

    """
    try:
        return Stamp.of(path.stat())
    except OSError as error:
        raise _unreadable(path, error) from error


async def read(path: Path, start: int, size: int) -> bytes:
    """Return `size` bytes from `start`.

    Raises:
        Rejected: UNREADABLE, or FILE_CHANGED if the file became shorter.

    """
    async with aclosing(chunks(path, start, size, chunk_bytes=max(size, 1))) as pieces:
        return b"".join([piece async for piece in pieces])


async def chunks(path: Path, start: int, size: int, *, chunk_bytes: int) -> AsyncGenerator[bytes]:
    """Yield `size` bytes from `start`, `chunk_bytes` at a time.

    Raises:
        Rejected: UNREADABLE, or FILE_CHANGED if the file became shorter.

    """
    try:
        async with aiofiles.open(path, "rb") as file:
            await file.seek(start)
            for left in range(size, 0, -chunk_bytes):
                expected = min(chunk_bytes, left)
                if len(chunk := await file.read(expected)) != expected:
                    raise file_changed(path)
                yield chunk
    except OSError as error:
        raise _unreadable(path, error) from error


def digest(path: Path, algorithm: str) -> str:
    """Return the hex digest of a whole file.

    Raises:
        Rejected: UNREADABLE.

    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def file_changed(path: Path) -> Rejected:
    """Return the error of a file that is still being written."""
    return Rejected(
        "FILE_CHANGED", f"{visible(str(path))} changed while it was read: store it again once it is complete"
    )


def _raise_unreadable(error: OSError) -> None:
    raise _unreadable(Path(str(error.filename)), error)


def _unreadable(path: Path, error: OSError) -> Rejected:
    return Rejected("UNREADABLE", f"{visible(str(path))}: {error.strerror or error}; check its permissions")

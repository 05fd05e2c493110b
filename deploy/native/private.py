"""Files and folders that no other user of this machine may read: everything a stack makes."""

import os
import stat
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

from shared.errors import PenstockError

UMASK: Final = 0o077
"""Of every program of a stack: what it makes is its owner's alone."""
SHARED_UMASK: Final = 0o022
"""Of what is no secret and is run by other users too: others may read it, and not change it."""
_TRACES: Final = ("logs", "stack.json", "supervisor.lock")


class Unsuitable(PenstockError):  # noqa: N818 - a state, not an error
    """The folder cannot be closed to other users; the text says why and what to do."""


def close_state_folder(folder: Path) -> None:
    """Make the state folder if it is missing, and close it and what an earlier version left open below it.

    Raises:
        Unsuitable: it belongs to another user, or holds things that are not a stack's.

    """
    make_folder(folder)
    if (owner := folder.stat().st_uid) != os.geteuid():
        raise Unsuitable(f"{folder} belongs to user {owner}: remove it, or set PENSTOCK_STATE_DIR to another folder")
    if _is_open(folder, UMASK) and _is_in_use_by_others(folder):
        raise Unsuitable(
            f"{folder} would be closed to all other users, but holds other things than a stack: "
            "set PENSTOCK_STATE_DIR to a folder of its own"
        )
    folder.chmod(0o700)
    try:
        remove_modes(folder, UMASK)
    except PermissionError as error:
        raise Unsuitable(f"{error.filename} belongs to another user: remove it, or give it to this one") from None


def remove_modes(folder: Path, mask: int) -> None:
    """Take the modes in `mask` from everything in `folder`; links are not followed.

    Costs one look at a folder that is closed already: what is below it is out of reach.
    """
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # a running stack has removed it
            if path.is_symlink() or not _is_open(path, mask):
                continue
            if path.is_dir():
                remove_modes(path, mask)
            # a folder after what it holds: a walk that is cut short is repeated
            path.chmod(stat.S_IMODE(path.stat().st_mode) & ~mask)


def make_folder(folder: Path) -> None:
    """Make a folder of the owner's alone, its missing parents too; one that is there stays as it is."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=0o700, exist_ok=True)


def open_file(path: Path, mode: str, **options: Any) -> IO[Any]:
    """Open a file as `open` does; a new one is its owner's alone, whatever the umask."""
    return open(path, mode, opener=partial(os.open, mode=0o600), **options)


def _is_in_use_by_others(folder: Path) -> bool:
    names = {path.name for path in folder.iterdir()}
    is_temporary = bool(folder.stat().st_mode & stat.S_ISVTX)
    return is_temporary or (bool(names) and names.isdisjoint(_TRACES))


def _is_open(path: Path, mask: int) -> bool:
    return bool(path.stat().st_mode & mask)

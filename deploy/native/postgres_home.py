"""Where PostgreSQL keeps its files: in the state folder, or outside it when it runs as a user of its own.

The state folder is closed to every other user, PostgreSQL's included, so a stack that root starts has its cluster under
/var/lib/penstock, in a folder of that user alone. A link in the state folder leads there; one that the operator makes
leads to any other disk.
"""

import shutil
import subprocess
from hashlib import blake2b
from pathlib import Path
from typing import Final

from deploy.native import private
from deploy.native.process import Failed

CLUSTERS: Final = Path("/var/lib/penstock")


def locate(state_dir: Path, user: str | None) -> Path:
    """Return the folder for `user` (None: who we are); a cluster of an earlier version moves there."""
    home = state_dir / "postgres"
    if user is None or home.is_symlink():
        return home.resolve()
    CLUSTERS.mkdir(parents=True, exist_ok=True)
    CLUSTERS.chmod(0o711)  # its users pass through; only root sees which clusters there are
    elsewhere = CLUSTERS / blake2b(str(state_dir).encode(), digest_size=8).hexdigest()
    if home.exists():
        move(home, elsewhere)
    private.make_folder(elsewhere)
    home.symlink_to(elsewhere)
    return elsewhere


def move(folder: Path, target: Path) -> None:
    """Move a folder with its owners, to another disk too; the old one counts until the new one is whole.

    Raises:
        Failed: it could not be copied, as when the disk is full.

    """
    half, left = target.with_name(f"{target.name}.part"), folder.with_name(f"{folder.name}.moved")
    for old in (half, left):
        shutil.rmtree(old, ignore_errors=True)
    copied = subprocess.run(
        ["cp", "-a", "--reflink=auto", str(folder), str(half)], capture_output=True, text=True, check=False
    )
    if copied.returncode != 0:
        raise Failed(f"{folder} could not be moved to {target}: {copied.stderr[-500:].strip()}")
    shutil.rmtree(target, ignore_errors=True)
    half.rename(target)
    folder.rename(left)
    shutil.rmtree(left)


def delete_data(state_dir: Path) -> None:
    """Delete the data of a stack: its state folder, and the cluster that may be outside it."""
    shutil.rmtree((state_dir / "postgres").resolve(), ignore_errors=True)
    shutil.rmtree(state_dir, ignore_errors=True)

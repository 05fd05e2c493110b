"""Documents that are made from the code: written anew, or compared with what is there."""

import sys
from collections.abc import Sequence
from pathlib import Path


def write_or_check(path: Path, fresh: str, command: str, arguments: Sequence[str]) -> int:
    """Write `fresh`, or with `--check` only compare it; return the exit code, 1 for a stale document."""
    if "--check" not in arguments:
        path.write_text(fresh)
        return 0
    if path.is_file() and path.read_text() == fresh:
        return 0
    print(f"{path.name} is stale: run `{command}`", file=sys.stderr)  # noqa: T201
    return 1

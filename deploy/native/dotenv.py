"""`.env`: created from `.env.example` at first use, and completed when the example has new variables."""

import base64
import contextlib
import os
import re
import secrets
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from shared.environment import FILE, read_file, resolve

EXAMPLE: Final = ".env.example"
RANDOM: Final = "<random>"
_LINE = re.compile(r"^(PENSTOCK_\w+)=(.*)$")


def ensure(folder: Path, process: Mapping[str, str], secret_names: Iterable[str] = ()) -> dict[str, str]:
    """Return the resolved variables of `folder`; create or complete its `.env` first.

    A new file takes over ports and secrets from the process environment, so that the next command finds the same
    stack. Each of `secret_names` gets a random value, even if the example lacks it.
    """
    known = read_file(folder)
    example = (folder / EXAMPLE).read_text().splitlines()
    _close(folder / FILE)
    present = (folder / FILE).read_text().splitlines() if (folder / FILE).is_file() else []
    if not present:
        _write(folder, _filled(example, process) + _random_secrets(secret_names, _names(example)))
    else:
        # an empty variable was emptied on purpose
        names = {*known, *_names(present)}
        new = [line for line in example if (found := _LINE.match(line)) and found[1] not in names]
        more = _filled(new, {**known, **process}) + _random_secrets(secret_names, {*names, *_names(new)})
        if more:
            _write(folder, [*present, "", *more])
    return resolve(process, read_file(folder), folder=folder)


def fresh(folder: Path, process: Mapping[str, str], secret_names: Iterable[str] = ()) -> dict[str, str]:
    """Return resolved variables with new secrets, and write no file: for the stack of a test."""
    example = (folder / EXAMPLE).read_text().splitlines()
    lines = _filled(example, process) + _random_secrets(secret_names, _names(example))
    return resolve(process, dict(line.split("=", 1) for line in lines if _LINE.match(line)), folder=folder)


def _filled(lines: Iterable[str], process: Mapping[str, str]) -> list[str]:
    """Return lines of the example with new secrets, and with the addresses that `process` moves."""
    generated: dict[str, str] = {}
    for line in lines:
        if found := _LINE.match(line):
            generated[found[1]] = process.get(found[1]) or _generated(found[1], found[2])
    generated = {name: _expand(value, {**generated, **process}) for name, value in generated.items()}
    moved = {name: value for name, value in process.items() if name.endswith("_PORT")}
    resolved = resolve(moved, generated, folder=Path("/"))
    addresses = {name: resolved[name] for name in generated if "://" in generated[name] or name.endswith("_BOOTSTRAP")}
    values = {**generated, **addresses}
    return [f"{found[1]}={values[found[1]]}" if (found := _LINE.match(line)) else line for line in lines]


def _generated(name: str, value: str) -> str:
    if value != RANDOM:
        return value
    return base64.b64encode(os.urandom(32)).decode() if name == "PENSTOCK_SECRET_KEY" else secrets.token_hex(20)


def _expand(value: str, known: Mapping[str, str]) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda found: known.get(found[1], ""), value)


def _random_secrets(names: Iterable[str], known: Iterable[str]) -> list[str]:
    return [f"{name}={secrets.token_hex(20)}" for name in names if name not in set(known)]


def _names(lines: Iterable[str]) -> set[str]:
    return {found[1] for line in lines if (found := _LINE.match(line))}


def _close(path: Path) -> None:
    """Remove the rights of other users, which a file copied by hand may have."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)


def _write(folder: Path, lines: Iterable[str]) -> None:
    """Replace the file in one step; `mkstemp` makes it readable by its owner only."""
    descriptor, path = tempfile.mkstemp(dir=folder, prefix=FILE)
    with os.fdopen(descriptor, "w") as file:
        file.write("\n".join(lines) + "\n")
    Path(path).replace(folder / FILE)

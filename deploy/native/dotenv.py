"""`.env`: made from `.env.example` at first use, and filled up when the example has grown."""

import base64
import contextlib
import os
import re
import secrets
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from shared.environment import FILE, KAFKA_PASSWORD, ROLE_PASSWORD, USER_SECRET, read_file, resolve

EXAMPLE: Final = ".env.example"
RANDOM: Final = "<random>"
_LINE = re.compile(r"^(PENSTOCK_\w+)=(.*)$")


def ensure(folder: Path, process: Mapping[str, str], services: Iterable[str] = ()) -> dict[str, str]:
    """Return the resolved variables of `folder`, its `.env` made or filled up first.

    A new file takes over what the environment says (moved ports, given secrets), so that the next command
    finds the same stack. `services` need a secret each, whether the example knows them or not.
    """
    known = read_file(folder)
    example = (folder / EXAMPLE).read_text().splitlines()
    _close(folder / FILE)
    kept = (folder / FILE).read_text().splitlines() if (folder / FILE).is_file() else []
    if not kept:
        _write(folder, _filled(example, process) + _own_secrets(services, _names(example)))
    else:
        # one that is there and empty was emptied on purpose
        there = {*known, *_names(kept)}
        new = [line for line in example if (found := _LINE.match(line)) and found[1] not in there]
        more = _filled(new, {**known, **process}) + _own_secrets(services, {*there, *_names(new)})
        if more:
            _write(folder, [*kept, "", *more])
    return resolve(process, read_file(folder), folder=folder)


def fresh(folder: Path, process: Mapping[str, str], services: Iterable[str] = ()) -> dict[str, str]:
    """Return resolved variables with fresh secrets and no file; for a stack that lives for a test."""
    example = (folder / EXAMPLE).read_text().splitlines()
    lines = _filled(example, process) + _own_secrets(services, _names(example))
    return resolve(process, dict(line.split("=", 1) for line in lines if _LINE.match(line)), folder=folder)


def _filled(lines: Iterable[str], process: Mapping[str, str]) -> list[str]:
    """Return lines of the example with fresh secrets, and with what `process` moved."""
    drawn: dict[str, str] = {}
    for line in lines:
        if found := _LINE.match(line):
            drawn[found[1]] = process.get(found[1]) or _drawn(found[1], found[2])
    drawn = {name: _expand(value, {**drawn, **process}) for name, value in drawn.items()}
    moved = {name: value for name, value in process.items() if name.endswith("_PORT")}
    resolved = resolve(moved, drawn, folder=Path("/"))
    addresses = {name: resolved[name] for name in drawn if "://" in drawn[name] or name.endswith("_BOOTSTRAP")}
    values = {**drawn, **addresses}
    return [f"{found[1]}={values[found[1]]}" if (found := _LINE.match(line)) else line for line in lines]


def _drawn(name: str, value: str) -> str:
    if value != RANDOM:
        return value
    return base64.b64encode(os.urandom(32)).decode() if name == "PENSTOCK_SECRET_KEY" else secrets.token_hex(20)


def _expand(value: str, known: Mapping[str, str]) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda found: known.get(found[1], ""), value)


def _own_secrets(services: Iterable[str], known: Iterable[str]) -> list[str]:
    kinds = (USER_SECRET, ROLE_PASSWORD, KAFKA_PASSWORD)
    names = [kind + service.upper() for kind in kinds for service in services]
    return [f"{name}={secrets.token_hex(20)}" for name in names if name not in set(known)]


def _names(lines: Iterable[str]) -> set[str]:
    return {found[1] for line in lines if (found := _LINE.match(line))}


def _close(path: Path) -> None:
    """Take from other users what a file copied by hand lets them read."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)


def _write(folder: Path, lines: Iterable[str]) -> None:
    """Put the file in place whole; `mkstemp` makes it readable by its owner alone."""
    descriptor, path = tempfile.mkstemp(dir=folder, prefix=FILE)
    with os.fdopen(descriptor, "w") as file:
        file.write("\n".join(lines) + "\n")
    Path(path).replace(folder / FILE)

"""The variables of a stack: the process's win over `.env`; ports and addresses follow from each other.

Every server is moved by one variable, whichever is handier: its address (`PENSTOCK_S3_ENDPOINT`) or its port alone
(`PENSTOCK_S3_PORT`). The process wins over `.env`, and within each of them the port over the address.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

from dotenv.main import DotEnv

from shared.errors import PenstockError
from shared.former_names import renamed

PREFIX: Final = "PENSTOCK_"
FILE: Final = ".env"
USER_SECRET: Final = f"{PREFIX}S3_SECRET_KEY_"
"""Followed by a service's name in capitals: the secret of its own S3 user."""
ROLE_PASSWORD: Final = f"{PREFIX}POSTGRES_PASSWORD_"
"""Followed by a service's name in capitals: the password of its own database role."""

KAFKA_PASSWORD: Final = f"{PREFIX}KAFKA_PASSWORD_"
"""Followed by the same, or by MINIO: the password of its own Kafka user."""
SCRAM: Final = "scram"
"""The value of PENSTOCK_KAFKA_AUTH that gives Kafka users."""
KAFKA_OPERATOR: Final = "penstock"
"""The Kafka user that may do everything, where the stack's Kafka has users."""

ADDRESSES: Final = {
    "S3": ("PENSTOCK_S3_ENDPOINT", "http://127.0.0.1:9000"),
    "KAFKA": ("PENSTOCK_KAFKA_BOOTSTRAP", "127.0.0.1:9092"),
    "POSTGRES": ("PENSTOCK_POSTGRES_DSN", "postgresql://penstock@127.0.0.1:5432/penstock"),
    "HTTP": ("PENSTOCK_HTTP_URL", "http://127.0.0.1:8080"),
}
_PORT = re.compile(r":(\d+)(?=[/?,]|$)")


def read_file(folder: Path) -> dict[str, str]:
    """Return PENSTOCK_* of `folder`'s `.env`; none when there is no such file, or it is another program's.

    Raises:
        PenstockError: the file cannot be read.

    """
    path = folder / FILE
    if not path.is_file():
        return {}
    try:
        found = DotEnv(path, verbose=False).dict()
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise PenstockError(f"{path} cannot be read: {reason}; mend or remove it") from None
    return {name: value for name, value in found.items() if value and name.startswith(PREFIX)}


def resolve(*layers: Mapping[str, str], folder: Path | None = None) -> dict[str, str]:
    """Merge PENSTOCK_* of `layers`, the first winning, into a set that fits together.

    Every port and every address is there, and the state folder is absolute (from `folder`, the current one).
    """
    layers = (*layers, renamed({name: value for layer in reversed(layers) for name, value in layer.items() if value}))
    merged = {
        name: value for layer in reversed(layers) for name, value in layer.items() if name.startswith(PREFIX) and value
    }
    for kind, (variable, default) in ADDRESSES.items():
        port = next((found for layer in layers if (found := _port_of(layer, kind))), None)
        address = merged.get(variable) or default
        merged[variable] = _PORT.sub(f":{port}", address, count=1) if port else address
        merged[f"{PREFIX}{kind}_PORT"] = port or _port_in(default)
    _add_password(merged)
    if merged.get(f"{PREFIX}KAFKA_AUTH", "").lower() == SCRAM:
        merged.setdefault(f"{PREFIX}KAFKA_USER", KAFKA_OPERATOR)
    kafka_port = int(merged[f"{PREFIX}KAFKA_PORT"])
    merged.setdefault(f"{PREFIX}KAFKA_CONTROLLER_PORT", str(kafka_port + 1))
    merged.setdefault(f"{PREFIX}S3_CONSOLE_PORT", "9001")
    merged.setdefault(f"{PREFIX}HEALTH_PORT_BASE", "8081")
    state = merged.get(f"{PREFIX}STATE_DIR", ".state")
    merged[f"{PREFIX}STATE_DIR"] = str((folder or Path.cwd()).resolve() / state)
    return merged


def with_login(dsn: str, user: str, password: str) -> str:
    """Return a database address with this user and password in place of its own; all else stays."""
    scheme, _, rest = dsn.partition("://")
    place, mark, query = rest.partition("?")
    host = place.partition("/")[0].rpartition("@")[2]
    tail = place[place.find("/") :] if "/" in place else ""
    kept = [one for one in query.split("&") if one.partition("=")[0] not in {"user", "password", "passfile"}]
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return f"{scheme}://{login}@{host}{tail}{mark if any(kept) else ''}{'&'.join(kept)}"


def by_service(env: Mapping[str, str], beginning: str) -> dict[str, str]:
    """Return the variables that begin so, by the service that their names end in."""
    return {name.removeprefix(beginning).lower(): env[name] for name in env if name.startswith(beginning)}


def has_kafka_users(env: Mapping[str, str]) -> bool:
    """Whether the stack's own Kafka has users.

    Raises:
        PenstockError: PENSTOCK_KAFKA_AUTH is neither none nor scram.

    """
    told = env.get(f"{PREFIX}KAFKA_AUTH", "none")
    if told.lower() in {"none", SCRAM}:
        return told.lower() == SCRAM
    raise PenstockError(f"PENSTOCK_KAFKA_AUTH={told}: set it to none or scram")


def _port_of(layer: Mapping[str, str], kind: str) -> str | None:
    """Return the port that one layer asks for, by number or by address."""
    return layer.get(f"{PREFIX}{kind}_PORT") or _port_in(layer.get(ADDRESSES[kind][0], "")) or None


def _port_in(address: str) -> str:
    found = _PORT.search(address)
    return found[1] if found else ""


def _add_password(merged: dict[str, str]) -> None:
    """Put the password into a database address that names a user alone."""
    if password := merged.get(f"{PREFIX}POSTGRES_PASSWORD"):
        dsn = ADDRESSES["POSTGRES"][0]
        merged[dsn] = re.sub(r"//([^:@/]+)@", rf"//\1:{password}@", merged[dsn], count=1)

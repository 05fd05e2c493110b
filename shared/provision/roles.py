"""Create database roles that log in, limit them, set their passwords, and disable those without one."""

import base64
import hashlib
import hmac
import os
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import asyncpg
from pydantic import SecretStr

from shared.postgres import COMMAND_SECONDS, CONNECT_SECONDS, Connection

_ITERATIONS: Final = 4096
"""SCRAM iterations, the default of Postgres."""


@dataclass(frozen=True, slots=True)
class Role:
    """A role that logs in; -1 `connections` means no limit."""

    name: str
    connections: int = -1
    session: Mapping[str, str] = field(default_factory=dict)
    """Default settings of its sessions, which a session may change."""
    limits: Mapping[str, str] = field(default_factory=dict)
    """Settings that only a superuser may set, and no session may change."""


async def ensure_role(connection: Connection, role: Role) -> list[str]:
    """Create or alter a role that may only log in, with exactly these settings; return the changes."""
    is_superuser = await connection.fetchval("select rolsuper from pg_roles where rolname = current_user")
    settings = {**role.session, **(role.limits if is_superuser else {})}
    desired = (True, role.connections, False, [f"{name}={value}" for name, value in settings.items()])
    found = await connection.fetchrow(_ROLE, role.name)
    if found is not None and tuple(found) == desired:
        return []
    if found is None:
        await connection.execute(f"create role {role.name}")
    # only if the role has one of these: Postgres 16 lets only roles that have an attribute revoke it
    has_attributes = found is not None and found[2]
    attributes = " nosuperuser nocreatedb nocreaterole noreplication nobypassrls" if has_attributes else ""
    await connection.execute(
        f"alter role {role.name} reset all;"
        f"alter role {role.name} login{attributes} connection limit {role.connections};"
        + ";".join(f"alter role {role.name} set {name} = '{value}'" for name, value in settings.items())
    )
    return [f"role {role.name}: {'set' if found else 'created'}"]


_ROLE: Final = """
select rolcanlogin, rolconnlimit, rolsuper or rolcreatedb or rolcreaterole or rolreplication or rolbypassrls,
       coalesce(rolconfig, '{}')
from pg_roles where rolname = $1
"""


async def lock_role(connection: Connection, name: str, variable: str) -> list[str]:
    """Disable the login of an existing role whose password `variable` is empty; return the changes."""
    if not await connection.fetchval("select rolcanlogin from pg_roles where rolname = $1", name):
        return []
    await connection.execute(f"alter role {name} nologin password null")
    return [f"role {name}: login disabled, because {variable} is empty"]


async def ensure_password(connection: Connection, dsn: SecretStr, name: str, password: SecretStr) -> list[str]:
    """Set a role's password unless it already logs in with it; return the changes."""
    if await logs_in(dsn, name, password):
        return []
    # a verifier, as psql's \password sends: the server may log statements
    await connection.execute(f"alter role {name} password '{_verifier(password.get_secret_value())}'")
    return [f"role {name}: password set"]


async def logs_in(dsn: SecretStr, name: str, password: SecretStr) -> bool:
    """Return whether a role can log in with this password; False for an uncommitted role."""
    try:
        connection = await connect(dsn, user=name, password=password.get_secret_value())
    except asyncpg.InvalidAuthorizationSpecificationError:
        return False
    except (asyncpg.TooManyConnectionsError, asyncpg.InsufficientPrivilegeError):  # checked after the password
        return True
    await connection.close(timeout=CONNECT_SECONDS)
    return True


def _verifier(password: str) -> str:
    """Return the SCRAM-SHA-256 verifier of a password (RFC 5803), so that the server never sees the password."""
    salt = os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", unicodedata.normalize("NFKC", password).encode(), salt, _ITERATIONS)
    client, server = (hmac.digest(salted, name, "sha256") for name in (b"Client Key", b"Server Key"))
    stored, shown_salt, shown_server = (
        base64.b64encode(part).decode() for part in (hashlib.sha256(client).digest(), salt, server)
    )
    return f"SCRAM-SHA-256${_ITERATIONS}:{shown_salt}${stored}:{shown_server}"


async def connect(
    dsn: SecretStr, user: str | None = None, password: str | None = None
) -> "asyncpg.Connection[asyncpg.Record]":
    """Open a connection for set-up, as the user of the DSN or as `user`."""
    return await asyncpg.connect(
        dsn.get_secret_value(),
        user=user,
        password=password,
        timeout=CONNECT_SECONDS,
        command_timeout=COMMAND_SECONDS,
        server_settings={"application_name": "penstock-set-up"},
    )

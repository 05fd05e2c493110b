"""Database roles that log in: made, limited, given their passwords, and locked where they have none."""

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
"""Of SCRAM, as Postgres has it by default."""


@dataclass(frozen=True, slots=True)
class Role:
    """A role that logs in; -1 is no limit of connections at a time."""

    name: str
    connections: int = -1
    session: Mapping[str, str] = field(default_factory=dict)
    """Settings of its sessions, which a session may change."""
    limits: Mapping[str, str] = field(default_factory=dict)
    """Settings that only a superuser gives, and that a session cannot change."""


async def ensure_role(connection: Connection, role: Role) -> list[str]:
    """Make a role that may log in and nothing else, with these settings and no others; say what changed."""
    is_superuser = await connection.fetchval("select rolsuper from pg_roles where rolname = current_user")
    settings = {**role.session, **(role.limits if is_superuser else {})}
    wanted = (True, role.connections, False, [f"{name}={value}" for name, value in settings.items()])
    found = await connection.fetchrow(_ROLE, role.name)
    if found is not None and tuple(found) == wanted:
        return []
    if found is None:
        await connection.execute(f"create role {role.name}")
    # a role has none of these unless it was given one, and Postgres 16 lets only those take one who have it
    powers = " nosuperuser nocreatedb nocreaterole noreplication nobypassrls" if found is not None and found[2] else ""
    await connection.execute(
        f"alter role {role.name} reset all;"
        f"alter role {role.name} login{powers} connection limit {role.connections};"
        + ";".join(f"alter role {role.name} set {name} = '{value}'" for name, value in settings.items())
    )
    return [f"role {role.name}: {'set' if found else 'made'}"]


_ROLE: Final = """
select rolcanlogin, rolconnlimit, rolsuper or rolcreatedb or rolcreaterole or rolreplication or rolbypassrls,
       coalesce(rolconfig, '{}')
from pg_roles where rolname = $1
"""


async def lock_role(connection: Connection, name: str, variable: str) -> list[str]:
    """Keep a role whose password `variable` is empty from logging in; one that does not exist stays so."""
    if not await connection.fetchval("select rolcanlogin from pg_roles where rolname = $1", name):
        return []
    await connection.execute(f"alter role {name} nologin password null")
    return [f"role {name}: may not log in any more, for {variable} is empty"]


async def ensure_password(connection: Connection, dsn: SecretStr, name: str, password: SecretStr) -> list[str]:
    """Set a role's password where it does not log in with this one."""
    if await logs_in(dsn, name, password):
        return []
    # a verifier, as psql's \password sends it: the server may log statements
    await connection.execute(f"alter role {name} password '{_verifier(password.get_secret_value())}'")
    return [f"role {name}: password set"]


async def logs_in(dsn: SecretStr, name: str, password: SecretStr) -> bool:
    """Tell whether a role gets in with this password; one that is not committed yet does not."""
    try:
        connection = await connect(dsn, user=name, password=password.get_secret_value())
    except asyncpg.InvalidAuthorizationSpecificationError:
        return False
    except (asyncpg.TooManyConnectionsError, asyncpg.InsufficientPrivilegeError):  # looked at after the password
        return True
    await connection.close(timeout=CONNECT_SECONDS)
    return True


def _verifier(password: str) -> str:
    """Return what Postgres keeps of a password for SCRAM-SHA-256 (RFC 5803), so that it never learns the password."""
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
    """Open a connection of set-up, as the operator or as another user."""
    return await asyncpg.connect(
        dsn.get_secret_value(),
        user=user,
        password=password,
        timeout=CONNECT_SECONDS,
        command_timeout=COMMAND_SECONDS,
        server_settings={"application_name": "penstock-set-up"},
    )

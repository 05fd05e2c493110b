"""Connections to a stack's database as each of its roles."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from deploy.native.stack import Stack
from shared.environment import with_login
from shared.provision.rights import READER, role_name


def dsn_as(stack: Stack, who: str, database: str = "") -> str:
    """Return the address for `operator`, `reader` or a service, in the stack's database or in another one."""
    dsn = stack.env["PENSTOCK_POSTGRES_DSN"]
    if who == "reader":
        dsn = with_login(dsn, READER, stack.env["PENSTOCK_READER_PASSWORD"])
    elif who != "operator":
        dsn = with_login(dsn, role_name(who), stack.env[f"PENSTOCK_POSTGRES_PASSWORD_{who.upper()}"])
    return f"{dsn.rpartition('/')[0]}/{database}" if database else dsn


@asynccontextmanager
async def logged_in(stack: Stack, who: str, database: str = "") -> AsyncIterator[Any]:
    """Give a connection of `operator`, `reader` or a service."""
    connection = await asyncpg.connect(dsn_as(stack, who, database), timeout=10)
    try:
        yield connection
    finally:
        connection.terminate()

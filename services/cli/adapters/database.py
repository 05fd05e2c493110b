"""Read-only connections to Postgres, for the views of schema `api`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from services.cli.adapters import errors
from services.cli.adapters.errors import within
from services.cli.settings import CliSettings
from shared.errors import Rejected, one_line
from shared.jsonb import register_json_codec

SECONDS = 5.0


def _explain_missing_view(server: str, error: BaseException) -> Rejected:
    reason = f"{server}: {one_line(error)}; services create their views at their first start: {errors.START_HINT}"
    return Rejected("NOT_SET_UP", reason)


errors.register_rejections(_explain_missing_view, asyncpg.InvalidSchemaNameError, asyncpg.UndefinedTableError)
errors.register_outages("", asyncpg.CannotConnectNowError)
errors.register_failures(asyncpg.InterfaceError, asyncpg.PostgresError)


@asynccontextmanager
async def open_database(
    settings: CliSettings, seconds: float = SECONDS, *, command_seconds: float = SECONDS, **login: Any
) -> AsyncIterator[Any]:
    """Open one read-only connection; jsonb is Python values, and a query may take `command_seconds`.

    `login` has `user` and `password` if they are not those of the DSN.

    Raises:
        Outage: no answer within `seconds`.

    """
    async with within(seconds, name_of(settings)):
        connection = await asyncpg.connect(
            settings.postgres_dsn.get_secret_value(),
            timeout=seconds,
            command_timeout=command_seconds,
            server_settings={"application_name": "penstock-cli", "default_transaction_read_only": "on"},
            **login,
        )
    try:
        async with within(seconds, name_of(settings)):
            await register_json_codec(connection)
        yield connection
    finally:
        await connection.close(timeout=seconds)


def name_of(settings: CliSettings) -> str:
    """Return the name of the server in error texts, without the password."""
    host = settings.postgres_dsn.get_secret_value().rpartition("@")[2].partition("?")[0]
    return f"Postgres at {host}"


async def ping(settings: CliSettings, seconds: float = SECONDS) -> None:
    """Run `SELECT 1`.

    Raises:
        Outage: no answer within `seconds`.

    """
    async with open_database(settings, seconds) as connection, within(seconds, name_of(settings)):
        await connection.fetchval("SELECT 1")

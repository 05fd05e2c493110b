"""Queries on etl's views."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from services.cli.adapters.database import name_of, open_database
from services.cli.adapters.errors import START_HINT, translate_errors
from services.cli.settings import CliSettings
from shared.errors import Rejected

SECONDS: Final = 30.0
"""Counting millions of rows takes seconds."""

_DATASETS = """
SELECT datasets.name, datasets.exported_rows AS rows, datasets.exported_at, datasets.is_behind, datasets.state,
       datasets.failed, datasets.error,
       coalesce(sources.files, 0) AS files, coalesce(sources.images, 0) AS images,
       coalesce(sources.rejected, 0)::bigint AS rejected, sources.loaded_at
FROM api.datasets AS datasets LEFT JOIN (
    SELECT dataset, count(*) FILTER (WHERE kind = 'rows') AS files, count(*) FILTER (WHERE kind = 'image') AS images,
           sum(rejected) AS rejected, max(loaded_at) AS loaded_at
    FROM api.sources GROUP BY dataset
) AS sources ON sources.dataset = datasets.name
ORDER BY datasets.name
"""
_LOADS = """
SELECT load_id, dataset, why, state, listed, changed, removed, rows, rejected, error, requested_at, started_at,
       finished_at, seconds, progress
FROM api.loads ORDER BY requested_at DESC, dataset LIMIT $1
"""
_LOAD = """
SELECT state, listed, changed, removed, rows, rejected, error, progress
FROM api.loads WHERE load_id = $1 AND dataset = $2
"""
_FILTER = "($1 = '' OR dataset = $1) AND ($2 = '' OR key = $2 OR bucket || '/' || key = $2)"
_REJECTS = f"""
SELECT dataset, bucket, key, row, "column", value, code, reason, rejected_at
FROM api.rejects WHERE {_FILTER} ORDER BY rejected_at DESC, key, row, "column" LIMIT $3
"""  # noqa: S608 - no user input in the text
_REJECTED = f"""
SELECT coalesce(sum(rejected), 0)::bigint AS rows, count(*) AS files
FROM api.sources WHERE (rejected > 0 OR reason <> '' OR failure <> '') AND {_FILTER}
"""  # noqa: S608 - no user input in the text


async def known_datasets(settings: CliSettings) -> dict[str, str]:
    """Return the datasets that etl knows, each with the reason why etl refuses it; empty if it does not."""
    async with _connection(settings) as connection:
        rows = await connection.fetch("SELECT name, error FROM api.datasets ORDER BY name")
    return {row["name"]: row["error"] for row in rows}


async def datasets(settings: CliSettings) -> list[dict[str, Any]]:
    """Return each dataset with its counts, its state and whether its output files are up to date."""
    async with _connection(settings) as connection:
        return [dict(row) for row in await connection.fetch(_DATASETS)]


async def loads(settings: CliSettings, limit: int) -> list[dict[str, Any]]:
    """Return the last loads, newest first."""
    async with _connection(settings) as connection:
        return [dict(row) for row in await connection.fetch(_LOADS, limit)]


async def load_of(settings: CliSettings, load_id: str, dataset: str) -> dict[str, Any] | None:
    """Return the state and progress of a load; None before etl has accepted it."""
    async with _connection(settings) as connection:
        row = await connection.fetchrow(_LOAD, load_id, dataset)
    return None if row is None else dict(row)


async def rejects(
    settings: CliSettings, filters: Sequence[str], limit: int
) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Return the counts of rejected rows and files, and the newest `limit` rejects with their reasons.

    `filters` are the dataset and the file's key (with or without its bucket), each empty for all.
    """
    async with _connection(settings) as connection:
        total = await connection.fetchrow(_REJECTED, *filters)
        rows = await connection.fetch(_REJECTS, *filters, limit)
    return dict(total), [dict(row) for row in rows]


@asynccontextmanager
async def _connection(settings: CliSettings) -> AsyncIterator[Any]:
    """Open a connection.

    Raises:
        Rejected: NOT_SET_UP if the views do not exist because etl has never run.
        Outage: no answer in time.

    """
    server = name_of(settings)
    async with open_database(settings, command_seconds=SECONDS) as connection:
        with translate_errors(server):
            try:
                yield connection
            except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError) as error:
                text = f"etl has never run on {server}, so its views do not exist: {START_HINT}"
                raise Rejected("NOT_SET_UP", text) from error

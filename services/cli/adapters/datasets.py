"""The questions the console asks of etl's views."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from services.cli.adapters.database import name_of, open_database
from services.cli.adapters.trouble import START, reaching
from services.cli.settings import CliSettings
from shared.errors import Rejected

SECONDS: Final = 30.0
"""Counting takes its time where there are millions."""

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
_WHICH = "($1 = '' OR dataset = $1) AND ($2 = '' OR key = $2 OR bucket || '/' || key = $2)"
_REJECTS = f"""
SELECT dataset, bucket, key, row, "column", value, code, reason, rejected_at
FROM api.rejects WHERE {_WHICH} ORDER BY rejected_at DESC, key, row, "column" LIMIT $3
"""  # noqa: S608 - text of ours
_REJECTED = f"""
SELECT coalesce(sum(rejected), 0)::bigint AS rows, count(*) AS files
FROM api.sources WHERE (rejected > 0 OR reason <> '' OR failure <> '') AND {_WHICH}
"""  # noqa: S608 - text of ours


async def known_datasets(settings: CliSettings) -> dict[str, str]:
    """Return the datasets that etl has declared, each with why it is refused; empty: it is not."""
    async with _asking(settings) as connection:
        rows = await connection.fetch("SELECT name, error FROM api.datasets ORDER BY name")
    return {row["name"]: row["error"] for row in rows}


async def datasets(settings: CliSettings) -> list[dict[str, Any]]:
    """Return each dataset: how much there is of it, and whether its files show it."""
    async with _asking(settings) as connection:
        return [dict(row) for row in await connection.fetch(_DATASETS)]


async def loads(settings: CliSettings, limit: int) -> list[dict[str, Any]]:
    """Return the last loads, newest first."""
    async with _asking(settings) as connection:
        return [dict(row) for row in await connection.fetch(_LOADS, limit)]


async def load_of(settings: CliSettings, load_id: str, dataset: str) -> dict[str, Any] | None:
    """Return how far a load is; None when etl has not taken it yet."""
    async with _asking(settings) as connection:
        row = await connection.fetchrow(_LOAD, load_id, dataset)
    return None if row is None else dict(row)


async def rejects(
    settings: CliSettings, which: Sequence[str], limit: int
) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Return how many rows and files are rejected, and the first of them with their reasons.

    `which` is the dataset and the file's key (with or without its bucket), each of them empty for all.
    """
    async with _asking(settings) as connection:
        total = await connection.fetchrow(_REJECTED, *which)
        rows = await connection.fetch(_REJECTS, *which, limit)
    return dict(total), [dict(row) for row in rows]


@asynccontextmanager
async def _asking(settings: CliSettings) -> AsyncIterator[Any]:
    """Open a connection; views that are not there mean that etl has never run.

    Raises:
        Rejected: NOT_SET_UP: they are not there.
        Outage: no answer in time.

    """
    what = name_of(settings)
    async with open_database(settings, command_seconds=SECONDS) as connection:
        with reaching(what):
            try:
                yield connection
            except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError) as error:
                text = f"etl has never run on {what}, so its tables are not there; {START}"
                raise Rejected("NOT_SET_UP", text) from error

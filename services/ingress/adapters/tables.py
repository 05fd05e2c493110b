"""The tables that etl has made of files: rows in three formats and of any size, counts, and what was rejected."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import asyncpg
from asyncpg import Record
from pydantic import ValidationError
from starlette.datastructures import URL
from starlette.responses import Response

from services.ingress.adapters import rejects, selects
from services.ingress.adapters.permit_pools import limiter
from services.ingress.adapters.postgres_pool import QUERY_SECONDS, acquire_within
from services.ingress.adapters.selects import Select
from services.ingress.adapters.streaming import Content, Put, Streamed
from services.ingress.core.access import Principal
from services.ingress.core.ages import AgeSpan
from services.ingress.core.datasets import Dataset, parse_dataset
from services.ingress.core.disposition import attachment
from services.ingress.core.filters import TYPES, Filters, Format, RowQuery
from services.ingress.core.problems import HttpProblem
from services.ingress.settings import IngressSettings
from shared.errors import Outage
from shared.postgres import Connection, Pool

COUNT_SECONDS: Final = 60.0
PAGE_SECONDS: Final = 10.0
STREAM_SECONDS: Final = 24 * 3600.0
"""Upper limit for one streamed answer."""
CHUNK_BYTES: Final = 256 << 10


class Tables:
    """Read the tables that etl has written.

    Streams use a connection pool of their own, so that slow clients delay only other streams.
    """

    def __init__(self, pool: Pool, streams: Pool, settings: IngressSettings) -> None:
        self._pool = pool
        self._streams = streams
        self._limiter = limiter("tables", settings)
        self._parquet_lock = asyncio.Semaphore(1)

    async def visible_datasets(self, principal: Principal) -> list[Dataset]:
        """Return the datasets that `principal` may read, by name; empty if etl has never run."""
        try:
            found = await self._ask(_DATASETS)
        except asyncpg.UndefinedTableError:
            return []
        datasets = (_parse_or_none(row["definition"], row["columns"]) for row in found)
        return [one for one in datasets if one is not None and one.is_visible_to(principal)]

    async def dataset(self, name: str, principal: Principal) -> Dataset:
        """Return a dataset by name.

        Raises HttpProblem: DATASET_UNKNOWN, which names those that there are.
        """
        known = {one.name: one for one in await self.visible_datasets(principal)}
        if name in known:
            return known[name]
        there = f"there are {', '.join(known)}" if known else "there is none yet; start etl, which makes their tables"
        raise HttpProblem("DATASET_UNKNOWN", f"there is no dataset {name!r} that you may read: {there}")

    def rows(self, dataset: Dataset, query: RowQuery, file_format: Format, url: URL) -> Response:
        """Return a streamed response with the rows of one snapshot, and a link to the next page."""
        content = (
            self._parquet(dataset, query, url)
            if file_format == "parquet"
            else self._rows(dataset, query, file_format, url)
        )
        return self._streamed(content)

    def rejects_csv(self, dataset: Dataset, key: str) -> Response:
        """Return all rejected rows of a dataset, or of one file, as CSV."""
        return self._streamed(self._rejects_csv(dataset, key))

    async def rejects_page(
        self, dataset: Dataset, key: str, after: str, limit: int
    ) -> tuple[list[dict[str, Any]], str]:
        """Return a page of rejected rows, and the cursor of the next page; empty at the end."""
        statement = rejects.page(dataset, key, after, limit)
        found = [dict(row) for row in await self._ask(statement.text, *statement.arguments, seconds=PAGE_SECONDS)]
        return found[:limit], rejects.cursor_of(found[limit - 1]) if len(found) > limit else ""

    async def rows_page(self, dataset: Dataset, query: RowQuery) -> tuple[list[Record], str]:
        """Return a page of rows, and the key after which the next page starts; empty at the end."""
        found = await self._read(selects.rows_for_page(dataset, query))
        has_more = query.limit is not None and len(found) > query.limit
        return found[: query.limit], str(found[-2][dataset.key]) if has_more else ""

    async def spans(self, dataset: Dataset, filters: Filters) -> list[AgeSpan]:
        """Count rows by their ages."""
        return [AgeSpan(**row) for row in await self._read(selects.age_spans(dataset, filters))]

    def _streamed(self, content: AbstractAsyncContextManager[Content]) -> Response:
        return Streamed(content)

    @asynccontextmanager
    async def _rows(self, dataset: Dataset, query: RowQuery, file_format: Format, url: URL) -> AsyncIterator[Content]:
        async with self._limiter.hold(), self._snapshot() as connection:
            until, headers = await _begin(connection, dataset, query, file_format, url)
            statement = (
                selects.rows_as_json(dataset, query, until)
                if file_format == "json"
                else selects.rows_as_cells(dataset, query, until, is_escaped=True)
            )
            yield Content(
                headers, partial(_copy_members if file_format == "json" else _copy_cells, connection, statement)
            )

    @asynccontextmanager
    async def _parquet(self, dataset: Dataset, query: RowQuery, url: URL) -> AsyncIterator[Content]:
        """Write the Parquet file to disk before sending, one at a time: its footer holds the offsets."""
        with tempfile.TemporaryDirectory(prefix="penstock-data-") as folder:
            source, target = Path(folder, "rows.csv"), Path(folder, "rows.parquet")
            async with self._limiter.hold():
                async with self._parquet_lock:
                    async with self._snapshot() as connection:
                        until, headers = await _begin(connection, dataset, query, "parquet", url)
                        statement = selects.rows_as_cells(dataset, query, until, is_escaped=False)
                        await _copy_cells(connection, statement, source)
                    size = await asyncio.to_thread(_write_parquet, source, target, dataset.types)
                yield Content(headers | {"content-length": str(size)}, partial(_send_file, target))

    @asynccontextmanager
    async def _rejects_csv(self, dataset: Dataset, key: str) -> AsyncIterator[Content]:
        async with self._limiter.hold(), self._snapshot() as connection:
            statement = rejects.all_rejects(dataset, key)
            yield Content(_headers(f"{dataset.name}-rejects", "csv"), partial(_copy_cells, connection, statement))

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[Connection]:
        """Yield a connection in a repeatable-read transaction with time zone UTC."""
        async with (
            _acquired(self._streams) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            await connection.execute("set local timezone to 'UTC'; set local jit to off")
            yield connection

    async def _read(self, statement: Select) -> list[Record]:
        """Answer a question for which the whole table may have to be read."""
        async with self._limiter.hold(), self._snapshot() as connection:
            return await connection.fetch(statement.text, *statement.arguments, timeout=COUNT_SECONDS)

    async def _ask(self, statement: str, *values: object, seconds: float = QUERY_SECONDS) -> list[Record]:
        async with acquire_within(self._pool, seconds=seconds) as connection:
            return await connection.fetch(statement, *values)


@asynccontextmanager
async def _acquired(pool: Pool) -> AsyncIterator[Connection]:
    try:
        async with asyncio.timeout(QUERY_SECONDS):
            connection = await pool.acquire()
    except TimeoutError:
        raise Outage(f"Postgres does not answer within {QUERY_SECONDS:g} s: try again later") from None
    try:
        yield connection
    finally:
        await pool.release(connection)


def _parse_or_none(definition: Any, order: Sequence[str]) -> Dataset | None:
    """Return a dataset; what another version of etl has defined, and is none here, is left out."""
    try:
        return parse_dataset(definition, order)
    except ValidationError:
        return None


async def _begin(
    connection: Connection, dataset: Dataset, query: RowQuery, file_format: Format, url: URL
) -> tuple[str | None, dict[str, str]]:
    """Return the last key of the page (None without a limit) and the response headers, with a link to the next page."""
    headers = _headers(dataset.name, file_format)
    if query.limit is None:
        return None, headers
    statement = selects.last_key_of(dataset, query)
    last = await connection.fetchrow(statement.text, *statement.arguments, timeout=COUNT_SECONDS)
    if last is None or not last["has_more"]:
        return None, headers
    return last["key"], {**headers, "link": f'<{address_after(url, last["key"])}>; rel="next"'}


async def _copy_members(connection: Connection, statement: Select, put: Put) -> None:
    """Stream a JSON object whose members the database renders.

    JSON escapes control characters, so neither quote nor delimiter of this CSV occurs in it and each line is one
    member. The comma before the first member is replaced by the opening brace.
    """
    is_empty = True

    async def pass_on(chunk: bytes) -> None:
        nonlocal is_empty
        await put(b"{" + chunk[1:] if is_empty else chunk)
        is_empty = False

    await connection.copy_from_query(
        statement.text,
        *statement.arguments,
        output=pass_on,
        format="csv",
        quote="\x01",
        delimiter="\x02",
        timeout=STREAM_SECONDS,
    )
    await put(b"{}" if is_empty else b"}")


async def _copy_cells(connection: Connection, statement: Select, output: Put | Path) -> None:
    await connection.copy_from_query(
        statement.text, *statement.arguments, output=output, format="csv", header=True, timeout=STREAM_SECONDS
    )


def _write_parquet(source: Path, target: Path, types: Mapping[str, str]) -> int:
    """Make one file of the other; return its size in bytes."""
    from shared.parquet import csv_to_parquet  # noqa: PLC0415 - imports polars, needed for Parquet only

    csv_to_parquet(source, target, types)
    source.unlink()
    return target.stat().st_size


async def _send_file(path: Path, put: Put) -> None:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            await put(chunk)


def _headers(name: str, file_format: Format) -> dict[str, str]:
    as_file = {} if file_format == "json" else {"content-disposition": attachment(f"{name}.{file_format}")}
    return {"content-type": TYPES[file_format], "cache-control": "no-store", "vary": "accept", **as_file}


def address_after(url: URL, key: str) -> str:
    """Return the URL of the page after `key`, without the token of the current URL."""
    following = url.include_query_params(after=key).remove_query_params("token")
    return f"{following.path}?{following.query}"


_DATASETS: Final = """
SELECT datasets.name, datasets.definition, array_agg(columns.attname::text ORDER BY columns.attnum) AS columns
FROM api.datasets JOIN pg_attribute AS columns
    ON columns.attrelid = to_regclass(format('api.%I', datasets.name)) AND columns.attnum > 0
GROUP BY 1, 2 ORDER BY 1
"""

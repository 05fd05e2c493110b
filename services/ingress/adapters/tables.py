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
from services.ingress.adapters.postgres_pool import SECONDS, asked
from services.ingress.adapters.selects import Select
from services.ingress.adapters.streaming import Content, Put, Streamed
from services.ingress.core.access import Principal
from services.ingress.core.ages import Span
from services.ingress.core.datasets import Dataset, dataset_of
from services.ingress.core.disposition import attachment
from services.ingress.core.filters import TYPES, Filters, Format, Rows
from services.ingress.core.problems import Problem
from services.ingress.settings import IngressSettings
from shared.errors import Outage
from shared.postgres import Connection, Pool

COUNTING_SECONDS: Final = 60.0
SHOWING_SECONDS: Final = 10.0
STREAM_SECONDS: Final = 24 * 3600.0
"""As long as a client takes what it is sent, it is sent more."""
PIECE: Final = 256 << 10


class Tables:
    """Reads what etl has written. Streams have connections of their own, so many and no more: whoever takes his time
    keeps nobody waiting but those who stream too.
    """  # noqa: D205 - one thought

    def __init__(self, pool: Pool, streams: Pool, settings: IngressSettings) -> None:
        self._pool = pool
        self._streams = streams
        self._limiter = limiter("tables", settings)
        self._writing = asyncio.Semaphore(1)

    async def seen_by(self, who: Principal) -> list[Dataset]:
        """Return the datasets that `who` may read, by name; none where etl has never run."""
        try:
            found = await self._ask(_DATASETS)
        except asyncpg.UndefinedTableError:
            return []
        datasets = (_dataset_in(row["definition"], row["columns"]) for row in found)
        return [one for one in datasets if one is not None and one.is_seen_by(who)]

    async def dataset(self, name: str, who: Principal) -> Dataset:
        """Return a dataset by its name.

        Raises Problem: DATASET_UNKNOWN, which names those that there are.
        """
        known = {one.name: one for one in await self.seen_by(who)}
        if name in known:
            return known[name]
        there = f"there are {', '.join(known)}" if known else "there is none yet; start etl, which makes their tables"
        raise Problem("DATASET_UNKNOWN", f"there is no dataset {name!r} that you may read: {there}")

    def rows(self, dataset: Dataset, wanted: Rows, told: Format, url: URL) -> Response:
        """Return the answer that gives rows as they are at one moment, with a link to the page after them."""
        content = self._parquet(dataset, wanted, url) if told == "parquet" else self._rows(dataset, wanted, told, url)
        return self._streamed(content)

    def rejects(self, dataset: Dataset, key: str) -> Response:
        """Return the answer that gives all rejected rows of a dataset, or of one file, as CSV."""
        return self._streamed(self._rejects(dataset, key))

    async def rejected(self, dataset: Dataset, key: str, after: str, limit: int) -> tuple[list[dict[str, Any]], str]:
        """Return some rejected rows by file and row, and what to ask the next ones after; empty: no more."""
        question = rejects.page(dataset, key, after, limit)
        found = [dict(row) for row in await self._ask(question.text, *question.arguments, seconds=SHOWING_SECONDS)]
        return found[:limit], rejects.cursor_of(found[limit - 1]) if len(found) > limit else ""

    async def shown(self, dataset: Dataset, wanted: Rows) -> tuple[list[Record], str]:
        """Return a page's rows for people, and the key after which there are more; empty: none."""
        found = await self._read(selects.rows_to_show(dataset, wanted))
        has_more = wanted.limit is not None and len(found) > wanted.limit
        return found[: wanted.limit], str(found[-2][dataset.key]) if has_more else ""

    async def spans(self, dataset: Dataset, filters: Filters) -> list[Span]:
        """Count rows by their ages."""
        return [Span(**row) for row in await self._read(selects.ages_of(dataset, filters))]

    def _streamed(self, content: AbstractAsyncContextManager[Content]) -> Response:
        return Streamed(content)

    @asynccontextmanager
    async def _rows(self, dataset: Dataset, wanted: Rows, told: Format, url: URL) -> AsyncIterator[Content]:
        async with self._limiter.hold(), self._moment() as connection:
            until, headers = await _begin(connection, dataset, wanted, told, url)
            question = (
                selects.rows_as_json(dataset, wanted, until)
                if told == "json"
                else selects.rows_as_cells(dataset, wanted, until, is_guarded=True)
            )
            yield Content(headers, partial(_copy_members if told == "json" else _copy_cells, connection, question))

    @asynccontextmanager
    async def _parquet(self, dataset: Dataset, wanted: Rows, url: URL) -> AsyncIterator[Content]:
        """Make the file first, one at a time: its last bytes say where the others are."""
        with tempfile.TemporaryDirectory(prefix="penstock-data-") as folder:
            source, target = Path(folder, "rows.csv"), Path(folder, "rows.parquet")
            async with self._limiter.hold():
                async with self._writing:
                    async with self._moment() as connection:
                        until, headers = await _begin(connection, dataset, wanted, "parquet", url)
                        question = selects.rows_as_cells(dataset, wanted, until, is_guarded=False)
                        await _copy_cells(connection, question, source)
                    size = await asyncio.to_thread(_write_parquet, source, target, dataset.types)
                yield Content(headers | {"content-length": str(size)}, partial(_send_file, target))

    @asynccontextmanager
    async def _rejects(self, dataset: Dataset, key: str) -> AsyncIterator[Content]:
        async with self._limiter.hold(), self._moment() as connection:
            question = rejects.as_cells(dataset, key)
            yield Content(_headers(f"{dataset.name}-rejects", "csv"), partial(_copy_cells, connection, question))

    @asynccontextmanager
    async def _moment(self) -> AsyncIterator[Connection]:
        """Give a connection for which nothing changes, and time is UTC."""
        async with (
            _connected(self._streams) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            await connection.execute("set local timezone to 'UTC'; set local jit to off")
            yield connection

    async def _read(self, question: Select) -> list[Record]:
        """Answer a question for which the whole table may have to be read."""
        async with self._limiter.hold(), self._moment() as connection:
            return await connection.fetch(question.text, *question.arguments, timeout=COUNTING_SECONDS)

    async def _ask(self, question: str, *values: object, seconds: float = SECONDS) -> list[Record]:
        async with asked(self._pool, seconds=seconds) as connection:
            return await connection.fetch(question, *values)


@asynccontextmanager
async def _connected(pool: Pool) -> AsyncIterator[Connection]:
    try:
        async with asyncio.timeout(SECONDS):
            connection = await pool.acquire()
    except TimeoutError:
        raise Outage(f"Postgres does not answer within {SECONDS:g} s: try again later") from None
    try:
        yield connection
    finally:
        await pool.release(connection)


def _dataset_in(definition: Any, order: Sequence[str]) -> Dataset | None:
    """Return a dataset; what another version of etl has defined, and is none here, is left out."""
    try:
        return dataset_of(definition, order)
    except ValidationError:
        return None


async def _begin(
    connection: Connection, dataset: Dataset, wanted: Rows, told: Format, url: URL
) -> tuple[str | None, dict[str, str]]:
    """Return the last key of the page, None for all there are, and the answer's headers, with a link to the next."""
    headers = _headers(dataset.name, told)
    if wanted.limit is None:
        return None, headers
    question = selects.last_key_of(dataset, wanted)
    last = await connection.fetchrow(question.text, *question.arguments, timeout=COUNTING_SECONDS)
    if last is None or not last["has_more"]:
        return None, headers
    return last["key"], {**headers, "link": f'<{address_after(url, last["key"])}>; rel="next"'}


async def _copy_members(connection: Connection, question: Select, put: Put) -> None:
    """Send a JSON object whose members the database has written.

    No quote and no delimiter of this CSV occurs in JSON, which escapes control characters, so that each line is a
    member as it is. The comma before the first one becomes the brace.
    """
    is_empty = True

    async def pass_on(piece: bytes) -> None:
        nonlocal is_empty
        await put(b"{" + piece[1:] if is_empty else piece)
        is_empty = False

    await connection.copy_from_query(
        question.text,
        *question.arguments,
        output=pass_on,
        format="csv",
        quote="\x01",
        delimiter="\x02",
        timeout=STREAM_SECONDS,
    )
    await put(b"{}" if is_empty else b"}")


async def _copy_cells(connection: Connection, question: Select, output: Put | Path) -> None:
    await connection.copy_from_query(
        question.text, *question.arguments, output=output, format="csv", header=True, timeout=STREAM_SECONDS
    )


def _write_parquet(source: Path, target: Path, types: Mapping[str, str]) -> int:
    """Make one file of the other; return its size in bytes."""
    from shared.parquet import csv_to_parquet  # noqa: PLC0415 - it brings polars, which few ask for

    csv_to_parquet(source, target, types)
    source.unlink()
    return target.stat().st_size


async def _send_file(path: Path, put: Put) -> None:
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, PIECE):
            await put(piece)


def _headers(name: str, told: Format) -> dict[str, str]:
    as_file = {} if told == "json" else {"content-disposition": attachment(f"{name}.{told}")}
    return {"content-type": TYPES[told], "cache-control": "no-store", "vary": "accept", **as_file}


def address_after(url: URL, key: str) -> str:
    """Return the address of what follows `key`, without the token that came in this one."""
    following = url.include_query_params(after=key).remove_query_params("token")
    return f"{following.path}?{following.query}"


_DATASETS: Final = """
SELECT datasets.name, datasets.definition, array_agg(columns.attname::text ORDER BY columns.attnum) AS columns
FROM api.datasets JOIN pg_attribute AS columns
    ON columns.attrelid = to_regclass(format('api.%I', datasets.name)) AND columns.attnum > 0
GROUP BY 1, 2 ORDER BY 1
"""

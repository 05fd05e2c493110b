"""What the files of a dataset have to show, and how far they are behind."""

import hashlib
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from services.etl.adapters import statements as sql
from services.etl.core.datasets import Dataset
from services.etl.core.exporting import schema_fingerprint, table_query
from services.etl.settings import EtlSettings
from shared.postgres import Connection, Pool
from shared.work import Item, WorkQueue

REJECTS: Final = "/rejects"
"""Behind a dataset's name: the work of writing what was rejected, which never holds up the table."""
STALE_BATCH_SIZE: Final = 50
REST_ROWS_PER_SECOND: Final = 200_000
"""After a large table was written, it rests about as long as that took."""
COPY_SECONDS: Final = 3600.0
ABANDONED_SECONDS: Final = 3600.0

# A dataset that nobody has loaded yet leaves alone what an earlier database's have written.
_DUE: Final = """
SELECT dataset, changed, written < changed AS is_behind, is_stale,
       extract(epoch FROM due - clock_timestamp())::float8 AS seconds,
       extract(epoch FROM greatest(due, rested) - clock_timestamp())::float8 AS rested
FROM etl.exports, LATERAL (SELECT
    least(changed_at + $2 * interval '1 second', coalesce(dirty_since, changed_at) + $3 * interval '1 second') AS due,
    written_at + rows / $4::float8 * interval '1 second' AS rested,
    EXISTS (SELECT FROM etl.sources WHERE sources.dataset = exports.dataset AND sources.is_stale) AS is_stale
) AS look
WHERE dataset = ANY($1) AND (written < changed OR is_stale) AND (
    written > 0 OR EXISTS (SELECT FROM etl.sources WHERE sources.dataset = exports.dataset)
    OR EXISTS (SELECT FROM etl.loads WHERE loads.dataset = exports.dataset AND state = 'succeeded')
)
"""

# Values as shared.parquet reads them; and a sort that stays in memory, by a query whose compiling would cost more.
_COPY_SETTINGS: Final = """
SET LOCAL datestyle = 'ISO'; SET LOCAL timezone = 'UTC'; SET LOCAL work_mem = '64MB'; SET LOCAL jit = off
"""

_MARK_WRITTEN: Final = """
UPDATE etl.exports SET
    written = $2, written_at = clock_timestamp(), rows = $3, etags = $4,
    dirty_since = CASE WHEN changed > $2 THEN $5::timestamptz END
WHERE dataset = $1
"""

_STALE: Final = "SELECT id, key FROM etl.sources WHERE dataset = $1 AND is_stale AND id > $2 ORDER BY id LIMIT $3"

_REJECTS: Final = """
SELECT source_id, line, api.cell("column"), api.cell(value), api.cell(code), api.cell(reason)
FROM etl.rejects WHERE source_id = ANY($1::bigint[]) ORDER BY source_id, line, "column", code
"""

# Locked in the order in which writers lock them. Whoever finds that the source went on meanwhile wrote an older file,
# perhaps over a newer one.
_MARK_REJECTS_WRITTEN: Final = """
WITH locked AS (
    SELECT id, fence FROM etl.sources WHERE id = ANY($1::bigint[])
    ORDER BY bucket COLLATE "C", key COLLATE "C" FOR UPDATE
)
UPDATE etl.sources AS mine SET
    is_stale = locked.fence <> told.fence,
    has_rejects_file = CASE WHEN locked.fence = told.fence THEN told.has_file ELSE true END
FROM locked JOIN unnest($1::bigint[], $2::bigint[], $3::boolean[]) AS told (id, fence, has_file) USING (id)
WHERE mine.id = locked.id
RETURNING mine.is_stale
"""


@dataclass(frozen=True, slots=True)
class Due:
    """Files that show less than there is; to be written in so many seconds, or now."""

    key: str
    changed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A table as it was at one moment, in a file of CSV whose folder takes what is made of it."""

    changed: int
    taken_at: datetime
    rows: int
    values: Path
    digest: str


@dataclass(frozen=True, slots=True)
class StaleSource:
    """A source whose rejects are not in its file as they are."""

    id: int
    key: str


@dataclass(frozen=True, slots=True)
class SourceRejects:
    """What is wrong with a source, as of `fence`."""

    id: int
    fence: int
    rows: Sequence[tuple[object, ...]]


class Exports:
    """`etl.exports`, and what goes into the files."""

    def __init__(self, pool: Pool, queue: WorkQueue, settings: EtlSettings) -> None:
        self._pool = pool
        self._queue = queue
        self._settings = settings

    async def due(self, datasets: Sequence[str]) -> list[Due]:
        """Name the work that waits for its moment, or for a worker."""
        quiet, longest = self._settings.etl_debounce_seconds, self._settings.etl_debounce_most_seconds
        rows = await self._pool.fetch(_DUE, datasets, quiet, longest, REST_ROWS_PER_SECOND)
        tables = [Due(row["dataset"], row["changed"], row["rested"]) for row in rows if row["is_behind"]]
        rejects = [Due(row["dataset"] + REJECTS, row["changed"], row["seconds"]) for row in rows if row["is_stale"]]
        return [*tables, *rejects]

    async def enqueue(self, due: Due) -> bool:
        """Have it written by whichever process comes first; False: it is written just now, or waits for a worker."""
        return await self._queue.add(due.key, {"changed": due.changed})

    @asynccontextmanager
    async def snapshot(self, dataset: Dataset) -> AsyncIterator[Snapshot]:
        """Give the table as it is, in a local file that goes with the block."""
        folder = self._folder()
        try:
            yield await self._copy_table(dataset, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def _copy_table(self, dataset: Dataset, folder: Path) -> Snapshot:
        values = folder / "values.csv"
        async with self._pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
            await connection.execute(_COPY_SETTINGS)
            query = "SELECT changed, clock_timestamp() AS taken_at FROM etl.exports WHERE dataset = $1"
            row = await connection.fetchrow(query, dataset.name)
            rows, digest = await _copy(connection, table_query(dataset), values, schema_fingerprint(dataset))
        assert row is not None, "a dataset that has a table has a row in etl.exports"  # noqa: S101
        return Snapshot(row["changed"], row["taken_at"], rows, values, digest)

    def _folder(self) -> Path:
        """Make a folder, and remove those that killed processes have left."""
        parent = self._settings.state_dir / "exports"
        parent.mkdir(parents=True, exist_ok=True)
        for abandoned in parent.iterdir():
            with suppress(FileNotFoundError):  # another process's, which has just ended
                if abandoned.stat().st_mtime < time.time() - ABANDONED_SECONDS:
                    shutil.rmtree(abandoned, ignore_errors=True)
        return Path(tempfile.mkdtemp(dir=parent))

    async def mark_written(self, dataset: Dataset, snapshot: Snapshot, etags: Mapping[str, str], item: Item) -> None:
        """Say what the files show, and that `item` is done; raises LeaseLost where it is somebody else's."""
        values = (dataset.name, snapshot.changed, snapshot.rows, dict(etags), snapshot.taken_at)
        async with self._pool.acquire() as connection, connection.transaction():
            await self._queue.complete(item, connection=connection)
            await connection.execute(_MARK_WRITTEN, *values)

    async def current_etags(self, datasets: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return the etags of the files that are up to date, by dataset."""
        query = "SELECT dataset, etags FROM etl.exports WHERE dataset = ANY($1) AND written = changed"
        return {row["dataset"]: row["etags"] for row in await self._pool.fetch(query, datasets)}

    async def request_rewrite(self, dataset: str) -> None:
        """Have the files of a dataset written again."""
        await self._pool.execute(sql.BUMP_EXPORT, dataset)

    async def stale_sources(self, dataset: str, after: int) -> list[StaleSource]:
        """Return the next sources, behind the one with the id `after`, whose rejects have to be written."""
        rows = await self._pool.fetch(_STALE, dataset, after, STALE_BATCH_SIZE)
        return [StaleSource(row["id"], row["key"]) for row in rows]

    async def rejects(self, stale_sources: Sequence[StaleSource]) -> dict[int, SourceRejects]:
        """Return what is wrong with each that is still there, by id."""
        ids = [one.id for one in stale_sources]
        async with self._pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
            fences = await connection.fetch("SELECT id, fence FROM etl.sources WHERE id = ANY($1::bigint[])", ids)
            rows = defaultdict(list)
            for source, *cells in await connection.fetch(_REJECTS, ids):
                rows[source].append(tuple(cells))
        return {row["id"]: SourceRejects(row["id"], row["fence"], rows[row["id"]]) for row in fences}

    async def mark_rejects_written(self, dataset: Dataset, written: Sequence[SourceRejects]) -> None:
        """Say that the files show this; of sources that went on meanwhile they have to be written again."""
        values = [(one.id, one.fence, bool(one.rows)) for one in written]
        async with self._pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(
                _MARK_REJECTS_WRITTEN, *(zip(*values, strict=True) if values else ([], [], []))
            )
            if any(row["is_stale"] for row in rows):
                await connection.execute(sql.BUMP_EXPORT, dataset.name)


async def _copy(connection: Connection, query: str, target: Path, schema_fingerprint: bytes) -> tuple[int, str]:
    """Write the answer as CSV; return how many rows it has, and a digest of the recipe and of it."""
    digest = hashlib.sha256(schema_fingerprint)
    with target.open("wb") as file:

        async def take(piece: bytes) -> None:
            digest.update(piece)
            file.write(piece)

        status = await connection.copy_from_query(query, output=take, format="csv", header=True, timeout=COPY_SECONDS)
    return int(status.rpartition(" ")[2]), digest.hexdigest()

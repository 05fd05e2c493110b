"""The state of output files: what they must contain, and which are behind."""

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
"""Suffix of the work item that writes rejects; a separate item, so that rejects do not delay the table."""
STALE_BATCH_SIZE: Final = 50
REST_ROWS_PER_SECOND: Final = 200_000
"""A table is not rewritten for rows / this many seconds after a write, about as long as the write took."""
COPY_SECONDS: Final = 3600.0
ABANDONED_SECONDS: Final = 3600.0

# A dataset that was never loaded is not due, so that a new database does not overwrite existing files.
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

# Formats that shared.parquet reads; enough memory for the sort; no JIT, which costs more than it saves here.
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

# Lock rows in the order in which writers lock them. If the fence of a source advanced meanwhile, the file just written
# is outdated and may have replaced a newer one, so the source stays stale.
_MARK_REJECTS_WRITTEN: Final = """
WITH locked AS (
    SELECT id, fence FROM etl.sources WHERE id = ANY($1::bigint[])
    ORDER BY bucket COLLATE "C", key COLLATE "C" FOR UPDATE
)
UPDATE etl.sources AS mine SET
    is_stale = locked.fence <> written.fence,
    has_rejects_file = CASE WHEN locked.fence = written.fence THEN written.has_file ELSE true END
FROM locked JOIN unnest($1::bigint[], $2::bigint[], $3::boolean[]) AS written (id, fence, has_file) USING (id)
WHERE mine.id = locked.id
RETURNING mine.is_stale
"""


@dataclass(frozen=True, slots=True)
class Due:
    """An export that is behind; it is due in `seconds`, or now if that is not positive."""

    key: str
    changed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A consistent copy of a table as a CSV file; its folder also takes the files derived from it."""

    changed: int
    taken_at: datetime
    rows: int
    values: Path
    digest: str


@dataclass(frozen=True, slots=True)
class StaleSource:
    """A source whose rejects file is outdated."""

    id: int
    key: str


@dataclass(frozen=True, slots=True)
class SourceRejects:
    """The rejects of a source, as of `fence`."""

    id: int
    fence: int
    rows: Sequence[tuple[object, ...]]


class Exports:
    """Reads and writes `etl.exports`, and reads the contents of output files."""

    def __init__(self, pool: Pool, queue: WorkQueue, settings: EtlSettings) -> None:
        self._pool = pool
        self._queue = queue
        self._settings = settings

    async def due(self, datasets: Sequence[str]) -> list[Due]:
        """Return the exports that are due now or later."""
        quiet, longest = self._settings.etl_debounce_seconds, self._settings.etl_debounce_most_seconds
        rows = await self._pool.fetch(_DUE, datasets, quiet, longest, REST_ROWS_PER_SECOND)
        tables = [Due(row["dataset"], row["changed"], row["rested"]) for row in rows if row["is_behind"]]
        rejects = [Due(row["dataset"] + REJECTS, row["changed"], row["seconds"]) for row in rows if row["is_stale"]]
        return [*tables, *rejects]

    async def enqueue(self, due: Due) -> bool:
        """Enqueue an export; return False if it is already queued or running."""
        return await self._queue.add(due.key, {"changed": due.changed})

    @asynccontextmanager
    async def snapshot(self, dataset: Dataset) -> AsyncIterator[Snapshot]:
        """Copy the table to a local file that is deleted after the block."""
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
        """Create a folder; delete the folders of killed processes."""
        parent = self._settings.state_dir / "exports"
        parent.mkdir(parents=True, exist_ok=True)
        for abandoned in parent.iterdir():
            with suppress(FileNotFoundError):  # another process just deleted its own folder
                if abandoned.stat().st_mtime < time.time() - ABANDONED_SECONDS:
                    shutil.rmtree(abandoned, ignore_errors=True)
        return Path(tempfile.mkdtemp(dir=parent))

    async def mark_written(self, dataset: Dataset, snapshot: Snapshot, etags: Mapping[str, str], item: Item) -> None:
        """Record what the files contain and complete `item`; raise LeaseLost if another worker holds it."""
        values = (dataset.name, snapshot.changed, snapshot.rows, dict(etags), snapshot.taken_at)
        async with self._pool.acquire() as connection, connection.transaction():
            await self._queue.complete(item, connection=connection)
            await connection.execute(_MARK_WRITTEN, *values)

    async def current_etags(self, datasets: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return the etags of up-to-date files by dataset."""
        query = "SELECT dataset, etags FROM etl.exports WHERE dataset = ANY($1) AND written = changed"
        return {row["dataset"]: row["etags"] for row in await self._pool.fetch(query, datasets)}

    async def request_rewrite(self, dataset: str) -> None:
        """Mark the files of a dataset as behind."""
        await self._pool.execute(sql.BUMP_EXPORT, dataset)

    async def stale_sources(self, dataset: str, after: int) -> list[StaleSource]:
        """Return the next stale sources with an id above `after`."""
        rows = await self._pool.fetch(_STALE, dataset, after, STALE_BATCH_SIZE)
        return [StaleSource(row["id"], row["key"]) for row in rows]

    async def rejects(self, stale_sources: Sequence[StaleSource]) -> dict[int, SourceRejects]:
        """Return the rejects of each source that still exists, by id."""
        ids = [one.id for one in stale_sources]
        async with self._pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
            fences = await connection.fetch("SELECT id, fence FROM etl.sources WHERE id = ANY($1::bigint[])", ids)
            rows = defaultdict(list)
            for source, *cells in await connection.fetch(_REJECTS, ids):
                rows[source].append(tuple(cells))
        return {row["id"]: SourceRejects(row["id"], row["fence"], rows[row["id"]]) for row in fences}

    async def mark_rejects_written(self, dataset: Dataset, written: Sequence[SourceRejects]) -> None:
        """Record that the rejects files were written; sources that changed meanwhile stay stale."""
        values = [(one.id, one.fence, bool(one.rows)) for one in written]
        async with self._pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(
                _MARK_REJECTS_WRITTEN, *(zip(*values, strict=True) if values else ([], [], []))
            )
            if any(row["is_stale"] for row in rows):
                await connection.execute(sql.BUMP_EXPORT, dataset.name)


async def _copy(connection: Connection, query: str, target: Path, schema_fingerprint: bytes) -> tuple[int, str]:
    """Write the query result as CSV; return the row count, and a digest of schema and content."""
    digest = hashlib.sha256(schema_fingerprint)
    with target.open("wb") as file:

        async def take(piece: bytes) -> None:
            digest.update(piece)
            file.write(piece)

        status = await connection.copy_from_query(query, output=take, format="csv", header=True, timeout=COPY_SECONDS)
    return int(status.rpartition(" ")[2]), digest.hexdigest()

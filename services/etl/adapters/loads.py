"""`etl.loads`: requested full loads and their results."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from services.etl.core.datasets import Dataset
from shared.events import EtlCompleted, EtlRequested, stable_id
from shared.postgres import Pool
from shared.work import WorkQueue


@dataclass(frozen=True, slots=True)
class Loads:
    """Loads by id and dataset, each with one leased work item."""

    pool: Pool
    queue: WorkQueue

    async def request(self, request_: EtlRequested, *, why: str) -> None:
        """Enqueue a load; do nothing if its id is known."""
        correlation_id = request_.correlation_id or stable_id("etl", request_.load_id, request_.dataset)
        payload = {"load_id": request_.load_id, "dataset": request_.dataset}
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.execute(_REQUEST, request_.load_id, request_.dataset, why, correlation_id)
            await self.queue.add(
                f"{request_.load_id}/{request_.dataset}", payload, correlation_id=correlation_id, connection=connection
            )

    async def begin(self, load_id: str, dataset: str) -> None:
        """Mark a load as running."""
        await self.pool.execute(_BEGIN, load_id, dataset)

    async def note_listed(self, load_id: str, dataset: str, listed: int) -> None:
        """Store how many objects were listed."""
        await self.pool.execute(_LISTED, load_id, dataset, listed)

    async def finish(self, load_id: str, dataset: str, correlation_id: str) -> Mapping[str, Any]:
        """Mark a load as succeeded; return its row, with counts of the objects that it loaded last."""
        row = await self.pool.fetchrow(_FINISH, load_id, dataset, correlation_id)
        return dict(row) if row else {}

    async def fail(self, load_id: str, dataset: str, correlation_id: str, error: str) -> Mapping[str, Any]:
        """Mark a load as failed with a reason; return its row, as `finish` does."""
        row = await self.pool.fetchrow(_FAIL, load_id, dataset, correlation_id, error)
        return dict(row) if row else {}

    async def table_created_at(self, dataset: str) -> str:
        """Return when a dataset's table was created, for load ids: a recreated table needs another load."""
        return str(await self.pool.fetchval(_TABLE_CREATED_AT, dataset))

    async def purge(self) -> None:
        """Delete loads older than 30 days."""
        await self.pool.execute(_PURGE)


def completed_fact(row: Mapping[str, Any], dataset: Dataset, bucket: str) -> EtlCompleted:
    """Return the fact about a finished load."""
    fields = ("load_id", "dataset", "listed", "changed", "removed", "rows", "rejected", "seconds", "correlation_id")
    outputs = tuple(f"{bucket}/{dataset.output_stem}.{ending}" for ending in ("csv", "parquet"))
    return EtlCompleted(**{name: row[name] for name in fields}, outputs=outputs)


_REQUEST: Final = """
INSERT INTO etl.loads (load_id, dataset, why, correlation_id) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
"""

_BEGIN: Final = """
UPDATE etl.loads SET state = 'running', started_at = coalesce(started_at, clock_timestamp()), error = NULL
WHERE load_id = $1 AND dataset = $2
"""

_LISTED: Final = "UPDATE etl.loads SET listed = $3 WHERE load_id = $1 AND dataset = $2"

_END: Final = """
UPDATE etl.loads SET
    {}, finished_at = clock_timestamp(), changed = done.changed, removed = done.removed, rows = done.rows,
    rejected = done.rejected
FROM (
    SELECT count(*) FILTER (WHERE etag IS NOT NULL) AS changed, count(*) FILTER (WHERE etag IS NULL) AS removed,
           coalesce(sum(rows), 0) AS rows, coalesce(sum(rejected), 0) AS rejected
    FROM etl.sources WHERE dataset = $2 AND correlation_id = $3 AND failure = ''
) AS done
WHERE load_id = $1 AND loads.dataset = $2
RETURNING loads.load_id, loads.dataset, loads.listed, loads.changed, loads.removed, loads.rows, loads.rejected,
          loads.correlation_id,
          coalesce(round(extract(epoch FROM loads.finished_at - loads.started_at), 3), 0)::float8 AS seconds
"""
_FINISH: Final = _END.format("state = 'succeeded', error = NULL")
_FAIL: Final = _END.format("state = 'failed', error = $4")

_TABLE_CREATED_AT: Final = """
SELECT (extract(epoch FROM updated_at) * 1000000)::bigint FROM etl.datasets WHERE name = $1
"""

_PURGE: Final = "DELETE FROM etl.loads WHERE requested_at < clock_timestamp() - interval '30 days'"

"""Loads of datasets: requested on the bus, tracked in the view `api.loads`."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from asyncpg import Record, UndefinedTableError

from services.ingress.adapters.postgres_pool import acquire_within
from services.ingress.core.load_ids import new_load_id, requested_at
from shared.bus import Bus
from shared.errors import Outage, PenstockError, Rejected
from shared.events import EtlRequested
from shared.postgres import Pool

log = structlog.get_logger()

PUBLISH_SECONDS: Final = 4.0
POLL_SECONDS: Final = 0.1
FINISHED_STATES: Final = frozenset({"succeeded", "failed"})


class Loads:
    """Request loads; `key` signs load ids, so that an id is recognized before etl has recorded it."""

    def __init__(self, pool: Pool, bus: Bus, key: bytes) -> None:
        self._pool = pool
        self._bus = bus
        self._key = key

    async def request(self, dataset: str) -> str:
        """Ask for a load of a dataset now; return its id.

        Raises Outage: Kafka is away.
        """
        load_id = new_load_id(self._key, datetime.now(UTC), dataset)
        try:
            async with asyncio.timeout(PUBLISH_SECONDS):
                await self._bus.publish([EtlRequested(load_id=load_id, dataset=dataset, correlation_id=load_id)])
        except TimeoutError:
            raise Outage(f"Kafka does not answer within {PUBLISH_SECONDS:g} s: try again later") from None
        return load_id

    async def wait_until_finished(self, load_id: str, dataset: str, seconds: float) -> dict[str, Any]:
        """Return a load once it has finished, or its state after `seconds`; `requested` if it is not recorded yet."""
        load: dict[str, Any] = {"load_id": load_id, "state": "requested"}
        with suppress(TimeoutError, PenstockError):
            async with asyncio.timeout(seconds):
                while load["state"] not in FINISHED_STATES:
                    await asyncio.sleep(POLL_SECONDS)
                    load = await self.find(load_id, [dataset]) or load
        return load

    async def get(self, load_id: str, datasets: Sequence[str]) -> dict[str, Any]:
        """Return a load of one of `datasets`; state `requested` if etl has not recorded it yet.

        Raises Rejected: NO_SUCH_LOAD.
        """
        if load := await self.find(load_id, datasets):
            return load
        raise Rejected("NO_SUCH_LOAD", "there is no load with this id that you may see: GET /data/loads has the last")

    async def find(self, load_id: str, datasets: Sequence[str]) -> dict[str, Any] | None:
        """Return a load of one of `datasets`, or None if the id is unknown."""
        if rows := await self._ask(_ONE, load_id, list(datasets)):
            return dict(rows[0])
        at = requested_at(self._key, load_id, datetime.now(UTC), datasets)
        return {"load_id": load_id, "state": "requested", "requested_at": at} if at else None

    async def latest(self, datasets: Sequence[str], limit: int) -> list[dict[str, Any]]:
        """Return the last loads of `datasets`, newest first."""
        return [dict(row) for row in await self._ask(_LATEST, list(datasets), limit)]

    async def _ask(self, statement: str, *values: object) -> list[Record]:
        try:
            async with acquire_within(self._pool) as connection:
                return await connection.fetch(statement, *values)
        except UndefinedTableError:  # etl has never run
            return []


_COLUMNS: Final = """
load_id, dataset, why, state, listed, changed, removed, rows, rejected, error, requested_at, started_at, finished_at,
seconds, progress
"""
_ONE: Final = f"SELECT {_COLUMNS} FROM api.loads WHERE load_id = $1 AND dataset = ANY ($2) ORDER BY dataset LIMIT 1"  # noqa: S608
_LATEST: Final = f"SELECT {_COLUMNS} FROM api.loads WHERE dataset = ANY ($1) ORDER BY requested_at DESC LIMIT $2"  # noqa: S608

"""An in-memory work queue for tests without a server; it passes the conformance tests of the real one."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from shared.postgres import Connection
from shared.work import Item, LeaseLost, WorkQueue


@dataclass(slots=True)
class _Row:
    payload: dict[str, Any]
    correlation_id: str
    due_at: float
    state: str = "pending"
    attempt: int = 0
    token: int = 0
    worker: str | None = None
    progress: Mapping[str, Any] | None = None
    error: str | None = None


class MemoryQueue(WorkQueue):
    """An in-memory queue without transactions: `connection` is ignored.

    `clock` returns seconds, as `time.monotonic` does.
    """

    def __init__(self, queue: str, *, lease_seconds: float = 30.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = queue
        self.lease_seconds = lease_seconds
        self.clock = clock
        self.rows: dict[str, _Row] = {}
        self._tokens = count(1)
        self._wakes: list[Callable[[], None]] = []

    async def add(
        self,
        key: str,
        payload: dict[str, Any],
        *,
        correlation_id: str = "",
        connection: Connection | None = None,  # noqa: ARG002
    ) -> bool:
        """Open the item unless it is pending, running, or succeeded with this payload."""
        row = self.rows.get(key)
        if row and (row.state in {"pending", "running"} or (row.state == "succeeded" and row.payload == payload)):
            return False
        self.rows[key] = _Row(payload, correlation_id, self.clock())
        self._wake()
        return True

    async def claim(self, worker: str, limit: int = 1) -> list[Item]:
        """Lease due items, oldest first."""
        now = self.clock()
        due = [key for key, row in self.rows.items() if row.state in {"pending", "running"} and row.due_at <= now]
        due.sort(key=lambda key: self.rows[key].due_at)
        return [self._lease(key, worker) for key in due[:limit]]

    def _lease(self, key: str, worker: str) -> Item:
        row = self.rows[key]
        row.state, row.worker, row.error = "running", worker, None
        row.attempt, row.token = row.attempt + 1, next(self._tokens)
        row.due_at = self.clock() + self.lease_seconds
        return Item(self.name, key, row.payload, row.attempt, row.token, row.correlation_id)

    async def heartbeat(self, item: Item, progress: Mapping[str, Any] | None = None) -> None:
        """Extend the lease."""
        row = self._fenced(item, "running", "succeeded")
        row.due_at, row.progress = self.clock() + self.lease_seconds, progress or row.progress

    async def complete(self, item: Item, *, connection: Connection | None = None) -> None:
        """Mark the item as succeeded."""
        repeatable = () if connection else ("succeeded",)
        self._fenced(item, "running", *repeatable).state = "succeeded"

    async def fail(self, item: Item, error: str, *, retry_in: float | None) -> None:
        """Return the item for a retry, or mark it as failed."""
        row = self._fenced(item, "running")
        row.state, row.error = "failed" if retry_in is None else "pending", error
        row.due_at = self.clock() + (retry_in or 0)

    async def postpone(self, item: Item, error: str, *, seconds: float) -> None:
        """Return the item for later without counting the attempt."""
        row = self._fenced(item, "running")
        row.state, row.error, row.attempt = "pending", error, row.attempt - 1
        row.due_at = self.clock() + seconds

    async def release(self, item: Item) -> None:
        """Return the item without counting the attempt."""
        row = self._fenced(item, "running")
        row.state, row.attempt, row.due_at = "pending", row.attempt - 1, self.clock()
        self._wake()

    async def release_all(self, worker: str) -> int:
        """Release all items of `worker`."""
        held = [(key, row) for key, row in self.rows.items() if row.state == "running" and row.worker == worker]
        for key, row in held:
            await self.release(Item(self.name, key, row.payload, row.attempt, row.token, row.correlation_id))
        return len(held)

    async def counts(self, prefix: str = "") -> dict[str, int]:
        """Return the number of items by state, for keys that begin with `prefix`."""
        return dict(Counter(row.state for key, row in self.rows.items() if key.startswith(prefix)))

    async def reports(self, prefix: str = "") -> list[dict[str, Any]]:
        """Return the last reported progress of running items whose keys begin with `prefix`."""
        running = [row for key, row in self.rows.items() if key.startswith(prefix) and row.state == "running"]
        return [dict(row.progress) for row in running if row.progress]

    async def purge(self) -> None:
        """Do nothing: no test runs that long."""

    async def forget(self, prefix: str) -> None:
        """Remove succeeded items whose keys begin with `prefix`."""
        done = [key for key, row in self.rows.items() if key.startswith(prefix) and row.state == "succeeded"]
        for key in done:
            del self.rows[key]

    async def seconds_until_due(self) -> float | None:
        """Return the seconds until an item is due."""
        due = [row.due_at for row in self.rows.values() if row.state in {"pending", "running"}]
        return min(due) - self.clock() if due else None

    async def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake` when an item is added or released, until cancelled."""
        self._wakes.append(wake)
        wake()
        try:
            await asyncio.Event().wait()
        finally:
            self._wakes.remove(wake)

    def _fenced(self, item: Item, *states: str) -> _Row:
        row = self.rows.get(item.key)
        if row is None or row.token != item.token or row.state not in states:
            raise LeaseLost(item)
        return row

    def _wake(self) -> None:
        for wake in self._wakes:
            wake()

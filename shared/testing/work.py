"""An in-memory work queue for tests without a server; it passes the conformance tests of the real one."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from shared.postgres import Connection
from shared.work import Item, ItemState, LeaseLost, State, WorkQueue
from shared.work.queue import FAILED_RETENTION, RETENTION


@dataclass(slots=True)
class _Row:
    """An item; times are seconds of the queue's clock."""

    payload: dict[str, Any]
    correlation_id: str
    group: str
    created_at: float
    due_at: float
    state: State = "pending"
    attempt: int = 0
    token: int = 0
    worker: str | None = None
    progress: dict[str, Any] | None = None
    error: str | None = None
    cancel_requested: bool = False
    updated_at: float = 0.0
    finished_at: float | None = None

    @property
    def is_open(self) -> bool:
        return self.state in {"pending", "running"}


class MemoryQueue(WorkQueue):
    """An in-memory queue without transactions: `connection` is ignored.

    `clock` returns seconds, as `time.monotonic` does.
    """

    def __init__(
        self,
        queue: str,
        *,
        lease_seconds: float = 30.0,
        per_group: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = queue
        self.lease_seconds = lease_seconds
        self.clock = clock
        self.rows: dict[str, _Row] = {}
        self._per_group = per_group
        self._tokens = count(1)
        self._wakes: list[tuple[Callable[[], None], Callable[[], None]]] = []

    async def add(  # noqa: PLR0913 - as in WorkQueue
        self,
        key: str,
        payload: dict[str, Any],
        *,
        group: str = "",
        not_before: datetime | None = None,
        correlation_id: str = "",
        connection: Connection | None = None,  # noqa: ARG002
    ) -> bool:
        """Open the item unless it is pending, running, or succeeded with this payload."""
        row = self.rows.get(key)
        if row and (row.is_open or (row.state == "succeeded" and row.payload == payload)):
            return False
        now = self.clock()
        wait = (not_before - datetime.now(UTC)).total_seconds() if not_before else 0.0
        self.rows[key] = _Row(
            payload, correlation_id, group, row.created_at if row else now, now + wait, updated_at=now
        )
        self._wake()
        return True

    async def claim(self, worker: str, limit: int = 1) -> list[Item]:
        """Lease due items, oldest first, within the limit of each group."""
        now, running, claimed = self.clock(), self._running(), list[Item]()
        due = [key for key, row in self.rows.items() if row.is_open and row.due_at <= now]
        for key in sorted(due, key=lambda key: self.rows[key].due_at):
            row = self.rows[key]
            if len(claimed) < limit and self._has_room(row, running):
                running[row.group] += row.state == "pending"
                claimed.append(self._lease(key, worker))
        return claimed

    def _running(self) -> Counter[str]:
        return Counter(row.group for row in self.rows.values() if row.state == "running")

    def _has_room(self, row: _Row, running: Counter[str]) -> bool:
        """Return whether the limit of its group allows to claim `row`; a takeover always is."""
        return (
            self._per_group is None or not row.group or row.state == "running" or (running[row.group] < self._per_group)
        )

    def _lease(self, key: str, worker: str) -> Item:
        row = self.rows[key]
        row.state, row.worker, row.error = "running", worker, None
        row.attempt, row.token = row.attempt + 1, next(self._tokens)
        row.due_at = self.clock() + self.lease_seconds
        return self._item(key, row)

    def _item(self, key: str, row: _Row) -> Item:
        return Item(
            self.name,
            key,
            row.payload,
            row.attempt,
            row.token,
            row.correlation_id,
            row.progress,
            row.group,
            row.cancel_requested,
        )

    async def heartbeat(self, item: Item, progress: Mapping[str, Any] | None = None) -> bool:
        """Extend the lease."""
        row = self._fenced(item, "running", "succeeded")
        row.due_at = self.clock() + self.lease_seconds
        row.progress = dict(progress) if progress else row.progress
        return row.cancel_requested

    async def complete(self, item: Item, *, connection: Connection | None = None) -> None:
        """Mark the item as succeeded."""
        repeatable = () if connection else ("succeeded",)
        self._finish(self._fenced(item, "running", *repeatable), "succeeded")

    async def fail(self, item: Item, error: str, *, retry_in: float | None) -> None:
        """Return the item for a retry, or mark it as failed."""
        row = self._fenced(item, "running")
        if retry_in is None:
            self._finish(row, "failed")
        else:
            self._return(row, retry_in)
        row.error = error

    async def postpone(self, item: Item, error: str, *, seconds: float) -> None:
        """Return the item for later without counting the attempt."""
        row = self._fenced(item, "running")
        self._return(row, seconds)
        row.attempt, row.error = row.attempt - 1, error

    async def reschedule(self, item: Item, *, seconds: float, progress: Mapping[str, Any] | None = None) -> None:
        """Return the item for later, with progress and without an error."""
        row = self._fenced(item, "running")
        self._return(row, seconds)
        row.attempt, row.error = row.attempt - 1, None
        row.progress = dict(progress) if progress else row.progress

    async def release(self, item: Item) -> None:
        """Return the item without counting the attempt."""
        row = self._fenced(item, "running")
        self._return(row, 0)
        row.attempt -= 1

    async def release_all(self, worker: str) -> int:
        """Release all items of `worker`."""
        held = [(key, row) for key, row in self.rows.items() if row.state == "running" and row.worker == worker]
        for key, row in held:
            await self.release(self._item(key, row))
        return len(held)

    async def cancel(self, key: str, *, connection: Connection | None = None) -> State | None:  # noqa: ARG002
        """Cancel an item that has begun nothing, or ask its worker to."""
        row = self.rows.get(key)
        if row is None or not row.is_open:
            return None
        if row.state == "pending" and row.progress is None:
            self._finish(row, "cancelled")
            return row.state
        row.cancel_requested = True
        if row.state == "pending":
            self._return(row, 0)
        for _, on_cancel in self._wakes:
            on_cancel()
        return row.state

    async def confirm_cancel(self, item: Item) -> None:
        """Mark the item as cancelled."""
        self._finish(self._fenced(item, "running"), "cancelled")

    async def state(self, key: str) -> ItemState | None:
        """Return the state of an item."""
        if (row := self.rows.get(key)) is None:
            return None
        return ItemState(
            row.state,
            row.attempt,
            row.progress,
            row.error,
            row.cancel_requested,
            not_before=self._time(row.due_at),
            created_at=self._time(row.created_at),
            updated_at=self._time(row.updated_at),
            finished_at=None if row.finished_at is None else self._time(row.finished_at),
        )

    async def counts(self, prefix: str = "") -> dict[str, int]:
        """Return the number of items by state, for keys that begin with `prefix`."""
        return dict(Counter(row.state for key, row in self.rows.items() if key.startswith(prefix)))

    async def reports(self, prefix: str = "") -> list[dict[str, Any]]:
        """Return the last reported progress of running items whose keys begin with `prefix`."""
        running = [row for key, row in self.rows.items() if key.startswith(prefix) and row.state == "running"]
        return [dict(row.progress) for row in running if row.progress]

    async def purge(self) -> None:
        """Remove items that finished long ago."""
        for key, row in list(self.rows.items()):
            retention = FAILED_RETENTION if row.state == "failed" else RETENTION
            if row.finished_at is not None and row.finished_at < self.clock() - retention.total_seconds():
                del self.rows[key]

    async def forget(self, prefix: str) -> None:
        """Remove succeeded items whose keys begin with `prefix`."""
        done = [key for key, row in self.rows.items() if key.startswith(prefix) and row.state == "succeeded"]
        for key in done:
            del self.rows[key]

    async def seconds_until_due(self) -> float | None:
        """Return the seconds until an item is due."""
        running = self._running()
        due = [row.due_at for row in self.rows.values() if row.is_open and self._has_room(row, running)]
        return min(due) - self.clock() if due else None

    async def listen(self, wake: Callable[[], None], on_cancel: Callable[[], None] = lambda: None) -> None:
        """Call `wake` when an item is added or returned, `on_cancel` when one is cancelled, until cancelled."""
        listener = (wake, on_cancel)
        self._wakes.append(listener)
        wake()
        try:
            await asyncio.Event().wait()
        finally:
            self._wakes.remove(listener)

    def _fenced(self, item: Item, *states: str) -> _Row:
        row = self.rows.get(item.key)
        if row is None or row.token != item.token or row.state not in states:
            raise LeaseLost(item)
        row.updated_at = self.clock()
        return row

    def _finish(self, row: _Row, state: State) -> None:
        row.finished_at = row.finished_at if row.state == state else self.clock()
        row.state, row.error = state, None
        self._wake()

    def _return(self, row: _Row, seconds: float) -> None:
        row.state, row.due_at = "pending", self.clock() + (0 if row.cancel_requested else seconds)
        self._wake()

    def _time(self, at: float) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=at - self.clock())

    def _wake(self) -> None:
        for wake, _ in self._wakes:
            wake()

"""One queue of leased rows in `work.items`."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from prometheus_client import Counter

from shared.postgres import Connection, Pool
from shared.wakeups import Wakeups
from shared.work import statements
from shared.work.item import Item, ItemState, LeaseLost, State

CHANNEL: Final = "penstock_work"
"""The Postgres notification channel; the payload is the name of a queue with a claimable item."""
CANCEL_CHANNEL: Final = "penstock_work_cancel"
"""The same for a queue with a running item that was cancelled."""
CANCEL_WAKE_SECONDS: Final = 1.0
"""The shortest time between two wake-ups by CANCEL_CHANNEL, because each costs a heartbeat per running item."""

RETENTION: Final = timedelta(days=30)
"""Retention of succeeded and cancelled items: longer than that of any record that could add one again."""
FAILED_RETENTION: Final = timedelta(days=90)
"""Retention of failed items: long enough to be inspected and added again; the table stays bounded."""

TAKEOVERS = Counter("penstock_work_takeovers_total", "Items claimed after another worker's lease expired.", ["queue"])
FAILURES = Counter("penstock_work_failures_total", "Attempts that failed.", ["queue", "final"])


def _noop() -> None:
    """Do nothing."""


class WorkQueue:
    """One queue of items; every method may raise an outage.

    A lease lasts `lease_seconds` from the last heartbeat. Methods on a claimed item raise LeaseLost once its token is
    no longer the newest. With `per_group`, at most that many items of one group run at a time; all processes that
    claim from the queue must use the same limit.
    """

    def __init__(self, pool: Pool, queue: str, *, lease_seconds: float = 30.0, per_group: int | None = None) -> None:
        self.name = queue
        self.lease_seconds = lease_seconds
        self._pool = pool
        self._per_group = per_group

    async def add(  # noqa: PLR0913 - all but two are keyword arguments
        self,
        key: str,
        payload: dict[str, Any],
        *,
        group: str = "",
        not_before: datetime | None = None,
        correlation_id: str = "",
        connection: Connection | None = None,
    ) -> bool:
        """Add an item unless it is pending or running; return whether this call opened it.

        A finished item opens again, unless it succeeded with an equal payload. It is not claimable before `not_before`
        (aware; by the database's clock). With `connection`, the item is added in that connection's transaction.
        """
        executor = connection or self._pool
        rows = await executor.fetch(statements.ADD, self.name, key, payload, correlation_id, CHANNEL, group, not_before)
        return bool(rows)

    async def claim(self, worker: str, limit: int = 1) -> list[Item]:
        """Lease to `worker` up to `limit` items that are due or whose lease has expired."""
        values = (self.name, worker, limit, self.lease_seconds)
        if self._per_group is None:
            rows = await self._pool.fetch(statements.CLAIM, *values)
        else:
            async with self._pool.acquire() as connection, connection.transaction():
                # a statement of its own: the claim's snapshot must include all claims before it
                await connection.execute(statements.LOCK_GROUPS, self.name)
                rows = await connection.fetch(statements.CLAIM_IN_GROUPS, *values, self._per_group)
        TAKEOVERS.labels(self.name).inc(sum(row["taken_over"] for row in rows))
        return [Item(**{name: row[name] for name in Item.__slots__}) for row in rows]

    async def heartbeat(self, item: Item, progress: Mapping[str, Any] | None = None) -> bool:
        """Extend the lease by `lease_seconds` from now; return whether the item was cancelled meanwhile.

        Without `progress`, the stored one remains.
        """
        values = (self.lease_seconds, progress and dict(progress))
        return bool(await self._write(self._pool, statements.HEARTBEAT, item, *values))

    async def complete(self, item: Item, *, connection: Connection | None = None) -> None:
        """Mark `item` as succeeded; with `connection`, in the same transaction as its effect.

        Completing it again is allowed without `connection`; with one it raises LeaseLost, to prevent a second effect.
        """
        await self._write(connection or self._pool, statements.COMPLETE, item, connection is None)
        await self._notify_group(item, connection)

    async def fail(self, item: Item, error: str, *, retry_in: float | None) -> None:
        """Return `item` to the queue for another attempt in `retry_in` seconds; None marks it as failed."""
        await self._write(self._pool, statements.FAIL, item, error, retry_in)
        await self._notify_group(item)
        FAILURES.labels(self.name, str(retry_in is None).lower()).inc()

    async def postpone(self, item: Item, error: str, *, seconds: float) -> None:
        """Return `item` to the queue, claimable after `seconds`, without counting this attempt."""
        await self._write(self._pool, statements.POSTPONE, item, error, seconds, None)
        await self._notify_group(item)

    async def reschedule(self, item: Item, *, seconds: float, progress: Mapping[str, Any] | None = None) -> None:
        """Return `item` to the queue as `postpone` does, with `progress` for its next holder and no error."""
        await self._write(self._pool, statements.POSTPONE, item, None, seconds, progress and dict(progress))
        await self._notify_group(item)

    async def release(self, item: Item) -> None:
        """Return `item` to the queue, claimable at once, without counting this attempt."""
        await self._write(self._pool, statements.RELEASE, item)
        await self._notify()

    async def release_all(self, worker: str) -> int:
        """Release all items of `worker`, including those of a cancelled claim; return their number."""
        status = await self._pool.execute(statements.RELEASE_ALL, self.name, worker)
        await self._notify()
        return int(status.rpartition(" ")[2])  # of a command tag such as `UPDATE 3`

    async def cancel(self, key: str, *, connection: Connection | None = None) -> State | None:
        """Cancel an unfinished item; return its state afterwards, None for a finished or unknown one.

        A pending item without progress is cancelled at once. Any other has begun something: its holder, or the worker
        that claims it next, stops it and confirms, after which its state is `cancelled`.
        """
        executor = connection or self._pool
        state: State | None = await executor.fetchval(statements.CANCEL, self.name, key, CHANNEL, CANCEL_CHANNEL)
        return state

    async def confirm_cancel(self, item: Item) -> None:
        """Mark `item` as cancelled, once nothing of it runs any longer."""
        await self._write(self._pool, statements.CONFIRM_CANCEL, item)
        await self._notify_group(item)

    async def state(self, key: str) -> ItemState | None:
        """Return the stored state of an item; None if there is none."""
        row = await self._pool.fetchrow(statements.STATE, self.name, key)
        return ItemState(**row) if row else None

    async def counts(self, prefix: str = "") -> dict[str, int]:
        """Return the number of items by state, for keys that begin with `prefix`."""
        rows = await self._pool.fetch(
            "select state, count(*) as items from work.items where queue = $1 and starts_with(key, $2) group by state",
            self.name,
            prefix,
        )
        return {row["state"]: row["items"] for row in rows}

    async def reports(self, prefix: str = "") -> list[dict[str, Any]]:
        """Return the last reported progress of running items whose keys begin with `prefix`."""
        rows = await self._pool.fetch(
            "select progress from work.items"
            " where queue = $1 and starts_with(key, $2) and state = 'running' and progress is not null",
            self.name,
            prefix,
        )
        return [row["progress"] for row in rows]

    async def forget(self, prefix: str) -> None:
        """Remove succeeded items whose keys begin with `prefix`, so that they can be added again."""
        await self._pool.execute(
            "delete from work.items where queue = $1 and starts_with(key, $2) and state = 'succeeded'",
            self.name,
            prefix,
        )

    async def purge(self) -> None:
        """Remove items that finished before `RETENTION`, or that failed before `FAILED_RETENTION`."""
        await self._pool.execute(statements.PURGE, self.name, RETENTION, FAILED_RETENTION)

    async def seconds_until_due(self) -> float | None:
        """Return the seconds until an item is claimable, 0 or less if one is; None if no item is pending or running."""
        if self._per_group is None:
            query: str = statements.SECONDS_UNTIL_DUE
            values: tuple[int, ...] = ()
        else:
            query, values = statements.SECONDS_UNTIL_DUE_IN_GROUPS, (self._per_group,)
        seconds: float | None = await self._pool.fetchval(query, self.name, *values)
        return seconds

    async def listen(self, wake: Callable[[], None], on_cancel: Callable[[], None] = _noop) -> None:
        """Call `wake` whenever an item becomes claimable, and `on_cancel` when a running one is cancelled.

        Return when the connection is lost.
        """
        lost = asyncio.Event()
        channels = {CHANNEL: Wakeups(wake), CANCEL_CHANNEL: Wakeups(on_cancel, CANCEL_WAKE_SECONDS)}
        async with self._pool.acquire() as connection:
            connection.add_termination_listener(lambda _: lost.set())
            try:
                for channel, wakeups in channels.items():
                    await connection.add_listener(channel, self._listener(wakeups))
                wake()  # for items added before we listened
                await lost.wait()
            finally:
                if not lost.is_set():
                    connection.terminate()  # drops its listeners; the pool opens another connection

    def _listener(self, wakeups: Wakeups) -> Callable[..., None]:
        return lambda *args: wakeups.notify() if args[-1] == self.name else None

    async def _notify_group(self, item: Item, connection: Connection | None = None) -> None:
        """Wake workers that wait for the group of `item`."""
        if self._per_group is not None and item.group:
            await self._notify(connection)

    async def _notify(self, connection: Connection | None = None) -> None:
        await (connection or self._pool).execute("select pg_notify($1, $2)", CHANNEL, self.name)

    async def _write(self, executor: Pool | Connection, statement: str, item: Item, *values: object) -> object:
        """Return the first column that `statement` returns. Raises LeaseLost if it changed no row."""
        row = await executor.fetchrow(statement, item.queue, item.key, item.token, *values)
        if row is None:
            raise LeaseLost(item)
        return row[0]

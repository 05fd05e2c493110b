"""One queue of leased rows in `work.items`."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from prometheus_client import Counter

from shared.errors import PenstockError
from shared.postgres import Connection, Pool
from shared.wakeups import Wakeups

CHANNEL: Final = "penstock_work"
"""The Postgres notification channel; the payload is the name of a queue with a claimable item."""

RETENTION: Final = timedelta(days=30)
"""Retention of finished items: longer than that of any record that could add one again."""

TAKEOVERS = Counter("penstock_work_takeovers_total", "Items claimed after another worker's lease expired.", ["queue"])
FAILURES = Counter("penstock_work_failures_total", "Attempts that failed.", ["queue", "final"])


@dataclass(frozen=True, slots=True)
class Item:
    """A claimed item; `token` is its fencing token, `attempt` counts from 1."""

    queue: str
    key: str
    payload: dict[str, Any]
    attempt: int
    token: int
    correlation_id: str


class LeaseLost(PenstockError):  # noqa: N818 - what happened, as everywhere here
    """Another worker has claimed or finished the item, so writes of its former holder are refused."""

    def __init__(self, item: Item) -> None:
        super().__init__(f"lease {item.token} on {item.queue} {item.key} was lost: another worker has the item")
        self.item = item


_ADD = """
with added as (
    insert into work.items as old (queue, key, payload, correlation_id) values ($1, $2, $3, $4)
    on conflict (queue, key) do update set
        payload = excluded.payload, correlation_id = excluded.correlation_id, state = 'pending', attempt = 0,
        worker = null, lease_until = null, heartbeat_at = null, progress = null, error = null,
        not_before = now(), updated_at = now(), finished_at = null
    where old.state in ('failed', 'cancelled')
        or (old.state = 'succeeded' and old.payload <> excluded.payload)
    returning queue
)
select pg_notify($5, queue) from added
"""

_CLAIM = """
with due as (
    select key, state = 'running' as taken_over from work.items
    where queue = $1 and due_at <= now()
    order by due_at limit $3 for update skip locked
)
update work.items item set
    state = 'running', attempt = attempt + 1, token = nextval('work.tokens'), worker = $2,
    lease_until = now() + $4 * interval '1 second', heartbeat_at = now(), error = null, updated_at = now()
from due where item.queue = $1 and item.key = due.key
returning item.queue, item.key, item.payload, item.attempt, item.token, item.correlation_id, due.taken_over
"""

_HEARTBEAT = """
update work.items set
    lease_until = now() + $4 * interval '1 second', heartbeat_at = now(), updated_at = now(),
    progress = coalesce($5, progress)
where queue = $1 and key = $2 and token = $3 and state in ('running', 'succeeded')
"""

_COMPLETE = """
update work.items set
    state = 'succeeded', error = null, worker = null, lease_until = null,
    finished_at = coalesce(finished_at, now()), updated_at = now()
where queue = $1 and key = $2 and token = $3 and (state = 'running' or ($4 and state = 'succeeded'))
"""

_FAIL = """
update work.items set
    state = case when $5::float8 is null then 'failed' else 'pending' end, error = $4,
    not_before = now() + coalesce($5, 0) * interval '1 second',
    finished_at = case when $5 is null then now() end, worker = null, lease_until = null, updated_at = now()
where queue = $1 and key = $2 and token = $3 and state = 'running'
"""

_POSTPONE = """
update work.items set
    state = 'pending', attempt = attempt - 1, error = $4, not_before = now() + $5::float8 * interval '1 second',
    worker = null, lease_until = null, updated_at = now()
where queue = $1 and key = $2 and token = $3 and state = 'running'
"""

_RELEASE = """
update work.items set
    state = 'pending', attempt = attempt - 1, not_before = now(), worker = null, lease_until = null,
    updated_at = now()
where queue = $1 and state = 'running'
"""


class WorkQueue:
    """One queue of items; every method may raise an outage.

    A lease lasts `lease_seconds` from the last heartbeat. Methods on a claimed item raise LeaseLost once its token is
    no longer the newest.
    """

    def __init__(self, pool: Pool, queue: str, *, lease_seconds: float = 30.0) -> None:
        self.name = queue
        self.lease_seconds = lease_seconds
        self._pool = pool

    async def add(
        self,
        key: str,
        payload: dict[str, Any],
        *,
        correlation_id: str = "",
        connection: Connection | None = None,
    ) -> bool:
        """Add an item unless it is pending or running; return whether this call opened it.

        A finished item opens again, unless it succeeded with an equal payload. With `connection`, the item is added in
        that connection's transaction.
        """
        rows = await (connection or self._pool).fetch(_ADD, self.name, key, payload, correlation_id, CHANNEL)
        return bool(rows)

    async def claim(self, worker: str, limit: int = 1) -> list[Item]:
        """Lease to `worker` up to `limit` items that are due or whose lease has expired."""
        rows = await self._pool.fetch(_CLAIM, self.name, worker, limit, self.lease_seconds)
        TAKEOVERS.labels(self.name).inc(sum(row["taken_over"] for row in rows))
        return [Item(**{name: row[name] for name in Item.__slots__}) for row in rows]

    async def heartbeat(self, item: Item, progress: Mapping[str, Any] | None = None) -> None:
        """Extend the lease by `lease_seconds` from now; without `progress`, the stored one remains."""
        await self._write(self._pool, _HEARTBEAT, item, self.lease_seconds, progress and dict(progress))

    async def complete(self, item: Item, *, connection: Connection | None = None) -> None:
        """Mark `item` as succeeded; with `connection`, in the same transaction as its effect.

        Completing it again is allowed without `connection`; with one it raises LeaseLost, to prevent a second effect.
        """
        await self._write(connection or self._pool, _COMPLETE, item, connection is None)

    async def fail(self, item: Item, error: str, *, retry_in: float | None) -> None:
        """Return `item` to the queue for another attempt in `retry_in` seconds; None marks it as failed."""
        await self._write(self._pool, _FAIL, item, error, retry_in)
        FAILURES.labels(self.name, str(retry_in is None).lower()).inc()

    async def postpone(self, item: Item, error: str, *, seconds: float) -> None:
        """Return `item` to the queue, claimable after `seconds`, without counting this attempt."""
        await self._write(self._pool, _POSTPONE, item, error, seconds)

    async def release(self, item: Item) -> None:
        """Return `item` to the queue, claimable at once, without counting this attempt."""
        await self._write(self._pool, f"{_RELEASE} and key = $2 and token = $3", item)
        await self._notify()

    async def release_all(self, worker: str) -> int:
        """Release all items of `worker`, including those of a cancelled claim; return their number."""
        status = await self._pool.execute(f"{_RELEASE} and worker = $2", self.name, worker)
        await self._notify()
        return _rows(status)

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
        """Remove items that succeeded or were cancelled before `RETENTION`; failed ones stay for inspection."""
        await self._pool.execute(
            "delete from work.items"
            " where queue = $1 and state in ('succeeded', 'cancelled') and finished_at < now() - $2::interval",
            self.name,
            RETENTION,
        )

    async def seconds_until_due(self) -> float | None:
        """Return the seconds until an item is claimable, 0 or less if one is; None if no item is pending or running."""
        seconds: float | None = await self._pool.fetchval(
            "select extract(epoch from min(due_at) - now())::float8 from work.items"
            " where queue = $1 and due_at is not null",
            self.name,
        )
        return seconds

    async def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake` whenever an item becomes claimable; return when the connection is lost."""
        lost, wakeups = asyncio.Event(), Wakeups(wake)
        async with self._pool.acquire() as connection:
            connection.add_termination_listener(lambda _: lost.set())
            try:
                await connection.add_listener(
                    CHANNEL, lambda *args: wakeups.notify() if args[-1] == self.name else None
                )
                wake()  # for items added before we listened
                await lost.wait()
            finally:
                if not lost.is_set():
                    connection.terminate()  # drops its listeners; the pool opens another connection

    async def _notify(self) -> None:
        await self._pool.execute("select pg_notify($1, $2)", CHANNEL, self.name)

    async def _write(self, executor: Pool | Connection, statement: str, item: Item, *values: object) -> None:
        status = await executor.execute(statement, item.queue, item.key, item.token, *values)
        if not _rows(status):
            raise LeaseLost(item)


def _rows(status: str) -> int:
    """Return the number of rows in a command tag such as `UPDATE 3`."""
    return int(status.rpartition(" ")[2])

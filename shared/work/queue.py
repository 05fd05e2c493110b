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
"""Notified with the queue's name whenever an item may be claimed at once."""

RETENTION: Final = timedelta(days=30)
"""Of finished items: long enough to be asked about, and for every record of a topic that would add one again."""

TAKEOVERS = Counter("penstock_work_takeovers_total", "Items claimed after their worker's lease was over.", ["queue"])
FAILURES = Counter("penstock_work_failures_total", "Attempts that failed.", ["queue", "final"])


@dataclass(frozen=True, slots=True)
class Item:
    """A claimed item; `token` fences every write of whoever holds it, `attempt` counts from 1."""

    queue: str
    key: str
    payload: dict[str, Any]
    attempt: int
    token: int
    correlation_id: str


class LeaseLost(PenstockError):  # noqa: N818 - what happened, as everywhere here
    """The item is somebody else's by now, or finished: what its former holder writes is refused."""

    def __init__(self, item: Item) -> None:
        super().__init__(f"lease {item.token} on {item.queue} {item.key} is over; the item went on without it")
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
    """The items of one queue, as producers and workers see them; every method may raise an outage.

    A claim holds for `lease_seconds` from the last heartbeat. What is done with a claimed item raises
    LeaseLost once its token is no longer the newest.
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
        """Ask for work once: say whether this call opened the item.

        An item that waits or runs stays as it is. A finished one is opened again, unless it succeeded with an
        equal payload. With `connection`, the item exists when that connection's transaction commits.
        """
        rows = await (connection or self._pool).fetch(_ADD, self.name, key, payload, correlation_id, CHANNEL)
        return bool(rows)

    async def claim(self, worker: str, limit: int = 1) -> list[Item]:
        """Lease up to `limit` items that are due, or whose worker let its lease run out, to `worker`."""
        rows = await self._pool.fetch(_CLAIM, self.name, worker, limit, self.lease_seconds)
        TAKEOVERS.labels(self.name).inc(sum(row["taken_over"] for row in rows))
        return [Item(**{name: row[name] for name in Item.__slots__}) for row in rows]

    async def heartbeat(self, item: Item, progress: Mapping[str, Any] | None = None) -> None:
        """Hold `item` for another `lease_seconds`; None keeps the progress that is there."""
        await self._write(self._pool, _HEARTBEAT, item, self.lease_seconds, progress and dict(progress))

    async def complete(self, item: Item, *, connection: Connection | None = None) -> None:
        """Finish `item`; with `connection`, in the same transaction as its effect.

        Who finished it may say so again, but not with another effect: with `connection` that is LeaseLost.
        """
        await self._write(connection or self._pool, _COMPLETE, item, connection is None)

    async def fail(self, item: Item, error: str, *, retry_in: float | None) -> None:
        """Give `item` back for a try in `retry_in` seconds; None: it failed for good."""
        await self._write(self._pool, _FAIL, item, error, retry_in)
        FAILURES.labels(self.name, str(retry_in is None).lower()).inc()

    async def postpone(self, item: Item, error: str, *, seconds: float) -> None:
        """Give `item` back to be claimed after `seconds`; this attempt does not count."""
        await self._write(self._pool, _POSTPONE, item, error, seconds)

    async def release(self, item: Item) -> None:
        """Give `item` back to be claimed at once; this attempt does not count."""
        await self._write(self._pool, f"{_RELEASE} and key = $2 and token = $3", item)
        await self._notify()

    async def release_all(self, worker: str) -> int:
        """Release whatever `worker` holds, also what a cancelled claim left behind; say how many items."""
        status = await self._pool.execute(f"{_RELEASE} and worker = $2", self.name, worker)
        await self._notify()
        return _rows(status)

    async def counts(self, prefix: str = "") -> dict[str, int]:
        """Return the number of items by state, of those whose key begins with `prefix`."""
        rows = await self._pool.fetch(
            "select state, count(*) as items from work.items where queue = $1 and starts_with(key, $2) group by state",
            self.name,
            prefix,
        )
        return {row["state"]: row["items"] for row in rows}

    async def reports(self, prefix: str = "") -> list[dict[str, Any]]:
        """Return what was last reported of the progress of running items whose key begins with `prefix`."""
        rows = await self._pool.fetch(
            "select progress from work.items"
            " where queue = $1 and starts_with(key, $2) and state = 'running' and progress is not null",
            self.name,
            prefix,
        )
        return [row["progress"] for row in rows]

    async def forget(self, prefix: str) -> None:
        """Remove the items that succeeded and whose key begins with `prefix`; added again they are new."""
        await self._pool.execute(
            "delete from work.items where queue = $1 and starts_with(key, $2) and state = 'succeeded'",
            self.name,
            prefix,
        )

    async def purge(self) -> None:
        """Remove the items that have ended well, or were cancelled, `KEPT` ago; one that failed waits for somebody."""
        await self._pool.execute(
            "delete from work.items"
            " where queue = $1 and state in ('succeeded', 'cancelled') and finished_at < now() - $2::interval",
            self.name,
            RETENTION,
        )

    async def seconds_until_due(self) -> float | None:
        """Return how long until some item may be claimed, at most 0 if now; None: nothing waits or runs."""
        seconds: float | None = await self._pool.fetchval(
            "select extract(epoch from min(due_at) - now())::float8 from work.items"
            " where queue = $1 and due_at is not null",
            self.name,
        )
        return seconds

    async def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake` whenever an item may be claimed at once; return when the connection is lost."""
        lost, wakeups = asyncio.Event(), Wakeups(wake)
        async with self._pool.acquire() as connection:
            connection.add_termination_listener(lambda _: lost.set())
            try:
                await connection.add_listener(
                    CHANNEL, lambda *said: wakeups.notify() if said[-1] == self.name else None
                )
                wake()  # for what came before we listened
                await lost.wait()
            finally:
                if not lost.is_set():
                    connection.terminate()  # with its listeners; the pool opens another

    async def _notify(self) -> None:
        await self._pool.execute("select pg_notify($1, $2)", CHANNEL, self.name)

    async def _write(self, on: Pool | Connection, statement: str, item: Item, *values: object) -> None:
        status = await on.execute(statement, item.queue, item.key, item.token, *values)
        if not _rows(status):
            raise LeaseLost(item)


def _rows(status: str) -> int:
    """Count the rows of a command tag such as `UPDATE 3`."""
    return int(status.rpartition(" ")[2])

"""Workers: claim what is due, keep its lease while the handler runs, and say how it ended."""

import asyncio
import os
import socket
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

import structlog
from prometheus_client import Counter

from shared.errors import Rejected, one_line
from shared.outages import is_outage, retry_outages
from shared.progress import Progress
from shared.work.queue import Item, LeaseLost, WorkQueue
from shared.work.retries import RetryPolicy

log = structlog.get_logger()
T = TypeVar("T")

LEASE_LOST = Counter("penstock_work_lease_lost_total", "Items whose worker found that its lease was lost.", ["queue"])

POLL_SECONDS: Final = 15.0
"""The longest a worker sleeps without looking; notifications and due times wake it before."""
BUSY_SECONDS: Final = 0.2
"""The shortest: what is due but locked is looked at again after this."""
PROGRESS_SECONDS: Final = 1.0
"""How stale reported progress may be in the table."""
PURGE_SECONDS: Final = 3600.0
"""Between two looks for what is old enough to be forgotten."""
RELEASE_SECONDS: Final = 5.0


class Lease:
    """A claimed item in its handler's hands."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self.progress: Mapping[str, Any] | None = None
        self.lost = False

    def report(self, progress: Mapping[str, Any]) -> None:
        """Say how far the work is, as JSON; cheap, from any thread: a heartbeat takes the newest."""
        self.progress = dict(progress)

    def check(self) -> None:
        """Raise LeaseLost once the item is known to be somebody else's; cheap, from any thread."""
        if self.lost:
            raise LeaseLost(self.item)


Handle = Callable[[Lease], Awaitable[None]]
OnFailure = Callable[[Item, Exception], Awaitable[None]]


async def _unheard(_item: Item, _error: Exception) -> None:
    """Tell nobody."""


async def _no_check() -> None:
    """Find nothing wrong."""


class _Postponed(Exception):  # noqa: N818 - what becomes of the item
    """An item met outages although the servers serve others; its cause is the last one."""


class Worker:
    """Runs `handle` on the items of `queue`, `concurrency` at a time, each under a lease kept by heartbeats.

    A handler that returns has completed its item, one that raises has not: an outage is retried in place for a while,
    and for longer only while `check` raises an outage too, for then the servers serve nobody; else the item is given
    back and comes again later, so that it blocks no other. Rejected data fails for good, other errors are tried again
    as `retries` says. A handler whose lease is lost is cancelled. Handlers are safe to repeat; one that completes the
    item itself, in the transaction of its effect, is safe against any zombie. `on_failure` hears of an item that is
    about to fail for good, and after a crash hears of it again.
    """

    def __init__(  # noqa: PLR0913 - all but two by name
        self,
        queue: WorkQueue,
        handle: Handle,
        *,
        concurrency: int,
        retries: RetryPolicy,
        grace: float = 15.0,
        on_failure: OnFailure = _unheard,
        check: Callable[[], Awaitable[None]] = _no_check,
        progress: Progress | None = None,
    ) -> None:
        self.name = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._queue = queue
        self._handle = handle
        self._retries = retries
        self._concurrency = concurrency
        self._grace = grace
        self._on_failure = on_failure
        self._check = check
        self._progress = progress or Progress()
        self._postponed: dict[str, int] = {}
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._held: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """Claim no more; `run` returns when what is held has ended or was released."""
        self._stopping.set()
        self._wake.set()

    async def run(self) -> None:
        """Work until `stop` or cancellation; then give handlers `grace` seconds and release what is left."""
        beside = [asyncio.create_task(self._listen()), asyncio.create_task(self._purge())]
        try:
            while not self._stopping.is_set():
                self._wake.clear()
                pause = await self._patiently(self._fill)
                # not `wait_for`: before Python 3.12 it loses a cancellation that comes together with the wake
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
        finally:
            for task in beside:
                task.cancel()
            await self._drain()

    async def _fill(self) -> float:
        """Claim for every free hand; return how many seconds there is nothing to do."""
        free = self._concurrency - len(self._held)
        if not free:
            return POLL_SECONDS
        items = await self._queue.claim(self.name, free)
        for item in items:
            task = asyncio.create_task(self._attend(item))
            self._held.add(task)
            task.add_done_callback(self._let_go)
        if len(items) == free:
            return POLL_SECONDS
        due = await self._queue.seconds_until_due()
        if due is None:  # what this process gave back has ended elsewhere
            self._progress.done(self._queue.name)
        return POLL_SECONDS if due is None else min(max(due, BUSY_SECONDS), POLL_SECONDS)

    def _let_go(self, task: asyncio.Task[None]) -> None:
        self._held.discard(task)
        self._wake.set()

    async def _listen(self) -> None:
        while True:
            await self._patiently(lambda: self._queue.listen(self._wake.set))

    async def _purge(self) -> None:
        while True:
            await self._patiently(self._queue.purge)
            await asyncio.sleep(PURGE_SECONDS)

    async def _attend(self, item: Item) -> None:
        """See one item through, whatever happens; nothing is raised but cancellation."""
        with structlog.contextvars.bound_contextvars(
            queue=item.queue, key=item.key, attempt=item.attempt, correlation_id=item.correlation_id
        ):
            try:
                await self._work(Lease(item))
            except LeaseLost:
                LEASE_LOST.labels(item.queue).inc()
                log.warning("work.lease_lost", fence=item.token)
            except Exception as error:
                log.exception("work.abandoned", reason=one_line(error))

    async def _work(self, lease: Lease) -> None:
        started = time.monotonic()
        try:
            await self._run_handler(lease)
        except LeaseLost:
            raise
        except _Postponed as postponed:
            await self._postpone(lease.item, postponed.args[0])
        except Exception as error:  # noqa: BLE001 - whatever it is, the row says it
            await self._fail(lease.item, error)
            self._came_forward(lease.item)
        else:
            await self._patiently(lambda: self._queue.complete(lease.item))
            self._came_forward(lease.item)
            log.info("work.succeeded", seconds=round(time.monotonic() - started, 3))

    def _came_forward(self, item: Item) -> None:
        self._postponed.pop(item.key, None)
        self._progress.done(self._queue.name)

    async def _run_handler(self, lease: Lease) -> None:
        """Run the handler while heartbeats hold the lease; the first error ends both."""
        if self._retries.attempts_exhausted(lease.item.attempt):
            raise Rejected("WORN_OUT", f"given up: claimed {lease.item.attempt} times, and its workers died")
        try:
            async with asyncio.TaskGroup() as group:
                beating = group.create_task(self._beat(lease))
                await self._handle_in_time(lease)
                beating.cancel()
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _handle_in_time(self, lease: Lease) -> None:
        """Run the handler, retrying outages; raise _Postponed for one that only this item meets for too long."""
        deadline = time.monotonic() + self._retries.outage_seconds

        async def handle() -> None:
            nonlocal deadline
            try:
                await self._handle(lease)
            except Exception as error:
                if not is_outage(error):
                    raise
                self._progress.failed(self._queue.name, error)
                if time.monotonic() > deadline:
                    await self._check()  # while that is an outage too, everybody waits
                    raise _Postponed(error) from error
                raise

        await self._patiently(handle)

    async def _postpone(self, item: Item, error: Exception) -> None:
        times = self._postponed.get(item.key, 0) + 1
        self._postponed[item.key] = times
        seconds, reason = self._retries.outage_wait(times), one_line(error)
        await self._patiently(lambda: self._queue.postpone(item, reason, seconds=seconds))
        log.warning("work.postponed", reason=reason, seconds=seconds, times=times)

    async def _beat(self, lease: Lease) -> None:
        every = self._queue.lease_seconds / 3
        sent, beaten_at = lease.progress, time.monotonic()
        while True:
            await asyncio.sleep(min(every, PROGRESS_SECONDS))
            progress = lease.progress
            if progress is sent and time.monotonic() - beaten_at < every:
                continue
            with _outages_passing():
                await self._hold(lease, progress)
                sent, beaten_at = progress, time.monotonic()

    async def _hold(self, lease: Lease, progress: Mapping[str, Any] | None) -> None:
        try:
            await self._queue.heartbeat(lease.item, progress)
        except LeaseLost:
            lease.lost = True
            raise

    async def _fail(self, item: Item, error: Exception) -> None:
        retry_in = self._retries.retry_in(error, item.attempt)
        if retry_in is None:
            await self._patiently(lambda: self._on_failure(item, error))
        await self._patiently(lambda: self._queue.fail(item, one_line(error), retry_in=retry_in))
        log.warning("work.failed", reason=one_line(error), retry_in=retry_in)

    async def _patiently(self, action: Callable[[], Awaitable[T]]) -> T:
        return await retry_outages(action, wait_max=self._retries.outage_wait_max, event="work.waiting")

    async def _drain(self) -> None:
        """Let what is held finish within `grace`, cancel the rest, and release it."""
        try:
            if self._held:
                await asyncio.wait(self._held, timeout=self._grace)
        finally:
            left = [task for task in self._held if task.cancel()]
            await asyncio.gather(*left, return_exceptions=True)
            with _outages_passing():
                async with asyncio.timeout(RELEASE_SECONDS):
                    released = await self._queue.release_all(self.name)
                log.info("work.drained", released=released)


@contextmanager
def _outages_passing() -> Iterator[None]:
    """Go on after an outage: the lease is in the row, and whoever comes late is fenced."""
    try:
        yield
    except Exception as error:
        if not is_outage(error):
            raise
        log.warning("work.lease_unattended", reason=one_line(error))

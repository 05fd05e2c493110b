"""Workers: claim due items, extend the lease while the handler runs, and record the outcome."""

import asyncio
import os
import socket
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, TypeVar

import structlog
from prometheus_client import Counter

from shared.errors import Rejected, one_line
from shared.loops import periodically
from shared.outages import is_outage, retry_outages
from shared.stages import StageProgress
from shared.work.item import Item, LeaseLost, WorkCancelled
from shared.work.lease import Lease
from shared.work.queue import WorkQueue
from shared.work.retries import RetryPolicy

log = structlog.get_logger()
T = TypeVar("T")

LEASE_LOST = Counter("penstock_work_lease_lost_total", "Items whose worker lost its lease.", ["queue"])

POLL_SECONDS: Final = 15.0
"""The longest time between polls; notifications and due times wake a worker earlier."""
MIN_POLL_SECONDS: Final = 0.2
"""The shortest time between polls, for items that are due but locked."""
PROGRESS_SECONDS: Final = 1.0
"""The longest delay of reported progress in the table."""
PURGE_SECONDS: Final = 3600.0
"""Time between two purges of old items."""
RELEASE_SECONDS: Final = 5.0


Handle = Callable[[Lease], Awaitable[None]]
OnFailure = Callable[[Item, Exception], Awaitable[None]]
OnCancel = Callable[[Lease], Awaitable[None]]


async def _noop_on_failure(_item: Item, _error: Exception) -> None:
    """Do nothing."""


async def _noop_on_cancel(_lease: Lease) -> None:
    """Do nothing."""


async def _noop_check() -> None:
    """Report no outage."""


class _Postponed(Exception):  # noqa: N818 - the outcome of an item
    """An item kept failing with outages although the servers work; the argument is the last one."""


class Worker:
    """Runs `handle` on up to `concurrency` items of `queue` at a time, each under a lease that heartbeats extend.

    An item is complete when its handler returns. The worker retries an outage in place for `retries.outage_seconds`,
    and longer only while `check` raises an outage too: then the servers are down for all. Otherwise it postpones the
    item, so that it blocks no other. Rejected data fails at once; `retries` limits other errors. A handler whose lease
    is lost is cancelled. Handlers must be idempotent; one that completes its item in the transaction of its effect is
    also safe against zombies. `on_failure` is called before an item is marked as failed, again after a crash.

    A handler learns from its lease that its item was cancelled, and ends by `lease.check()`. `on_cancel` stops what it
    left outside and is called before the item is marked as cancelled, under the lease, again after a crash; then also
    by a worker that never ran the handler.
    """

    def __init__(  # noqa: PLR0913 - all but two are keyword arguments
        self,
        queue: WorkQueue,
        handle: Handle,
        *,
        concurrency: int,
        retries: RetryPolicy,
        grace: float = 15.0,
        on_failure: OnFailure = _noop_on_failure,
        on_cancel: OnCancel = _noop_on_cancel,
        check: Callable[[], Awaitable[None]] = _noop_check,
        progress: StageProgress | None = None,
    ) -> None:
        self.name = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._queue = queue
        self._handle = handle
        self._retries = retries
        self._concurrency = concurrency
        self._grace = grace
        self._on_failure = on_failure
        self._on_cancel = on_cancel
        self._check = check
        self._progress = progress or StageProgress()
        self._postponed: dict[str, int] = {}
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._running: dict[asyncio.Task[None], Lease] = {}

    def stop(self) -> None:
        """Stop claiming; `run` returns once all claimed items have ended or were released."""
        self._stopping.set()
        self._wake.set()

    async def run(self) -> None:
        """Work until `stop` or cancellation; then give handlers `grace` seconds and release the remaining items."""
        background = [
            asyncio.create_task(self._listen()),
            asyncio.create_task(periodically(self._queue.purge, PURGE_SECONDS, event="work.waiting")),
        ]
        try:
            while not self._stopping.is_set():
                self._wake.clear()
                pause = await self._retrying(self._claim)
                # not `wait_for`: before Python 3.12 it loses a cancellation that coincides with the wake-up
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
        finally:
            for task in background:
                task.cancel()
            await self._drain()

    async def _claim(self) -> float:
        """Claim items for all free slots; return the seconds until the next poll."""
        free = self._concurrency - len(self._running)
        if not free:
            return POLL_SECONDS
        items = await self._queue.claim(self.name, free)
        for item in items:
            lease = Lease(item)
            task = asyncio.create_task(self._process(lease))
            self._running[task] = lease
            task.add_done_callback(self._on_done)
        if len(items) == free:
            return POLL_SECONDS
        due = await self._queue.seconds_until_due()
        if due is None:  # other workers have finished the items that this one returned
            self._progress.done(self._queue.name)
        return POLL_SECONDS if due is None else min(max(due, MIN_POLL_SECONDS), POLL_SECONDS)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._wake.set()

    async def _listen(self) -> None:
        while True:
            await self._retrying(lambda: self._queue.listen(self._wake.set, self._beat))

    def _beat(self) -> None:
        """Send a heartbeat for each running item now: one of the queue was cancelled."""
        for lease in self._running.values():
            lease.beat.set()

    async def _process(self, lease: Lease) -> None:
        """Process one item; raise nothing but cancellation."""
        item = lease.item
        with structlog.contextvars.bound_contextvars(
            queue=item.queue, key=item.key, attempt=item.attempt, correlation_id=item.correlation_id
        ):
            try:
                await self._work(lease)
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
        except WorkCancelled:
            await self._confirm_cancel(lease)
        except _Postponed as postponed:
            await self._postpone(lease, postponed.args[0])
        except Exception as error:  # noqa: BLE001 - the row records any error
            await self._fail(lease, error)
            self._made_progress(lease.item)
        else:
            await self._finish(lease, seconds=round(time.monotonic() - started, 3))

    async def _finish(self, lease: Lease, *, seconds: float) -> None:
        """Complete the item, or reschedule it if the handler asked for that."""
        if (later := lease.reschedule_in) is None:
            await self._retrying(lambda: self._queue.complete(lease.item))
            log.info("work.succeeded", seconds=seconds)
        else:
            await self._retrying(lambda: self._queue.reschedule(lease.item, seconds=later, progress=lease.progress))
            log.debug("work.rescheduled", seconds=later)
        self._made_progress(lease.item)

    async def _confirm_cancel(self, lease: Lease) -> None:
        await self._retrying(lambda: self._queue.confirm_cancel(lease.item))
        self._made_progress(lease.item)
        log.info("work.cancelled")

    def _made_progress(self, item: Item) -> None:
        self._postponed.pop(item.key, None)
        self._progress.done(self._queue.name)

    async def _run_handler(self, lease: Lease) -> None:
        """Run the handler while heartbeats extend the lease; the first error ends both."""
        if self._retries.attempts_exhausted(lease.item.attempt):
            raise Rejected("WORN_OUT", f"claimed {lease.item.attempt} times without a result: see the workers' logs")
        try:
            async with asyncio.TaskGroup() as group:
                heartbeats = group.create_task(self._send_heartbeats(lease))
                await self._handle_unless_cancelled(lease)
                heartbeats.cancel()
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _handle_unless_cancelled(self, lease: Lease) -> None:
        try:
            await self._handle_with_retries(lease)
        except WorkCancelled:
            await self._retrying(lambda: self._on_cancel(lease))
            raise

    async def _handle_with_retries(self, lease: Lease) -> None:
        """Run the handler, retrying outages; raise _Postponed past `outage_seconds` if only this item meets them."""
        deadline = time.monotonic() + self._retries.outage_seconds

        async def handle() -> None:
            nonlocal deadline
            lease.check()
            lease.reschedule_in = None
            try:
                await self._handle(lease)
            except Exception as error:
                if not is_outage(error):
                    raise
                self._progress.failed(self._queue.name, error)
                if time.monotonic() > deadline:
                    await self._check()  # raises while the servers are down for all items
                    raise _Postponed(error) from error
                raise

        await self._retrying(handle)

    async def _postpone(self, lease: Lease, error: Exception) -> None:
        item = lease.item
        times = self._postponed.get(item.key, 0) + 1
        self._postponed[item.key] = times
        seconds, reason = self._retries.outage_wait(times), one_line(error)
        await self._store_progress(lease)
        await self._retrying(lambda: self._queue.postpone(item, reason, seconds=seconds))
        log.warning("work.postponed", reason=reason, seconds=seconds, times=times)

    async def _send_heartbeats(self, lease: Lease) -> None:
        every = self._queue.lease_seconds / 3
        sent_at = time.monotonic()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(every, PROGRESS_SECONDS)):
                    await lease.beat.wait()
            if lease.progress is lease.stored and time.monotonic() - sent_at < every and not lease.beat.is_set():
                continue
            lease.beat.clear()
            with _log_outages():
                await self._heartbeat(lease)
                sent_at = time.monotonic()

    async def _heartbeat(self, lease: Lease) -> None:
        """Extend the lease and store the newest progress; note on `lease` that it was lost or cancelled."""
        progress = lease.progress
        try:
            if await self._queue.heartbeat(lease.item, progress):
                lease.cancelled.set()
        except LeaseLost:
            lease.lost = True
            raise
        lease.stored = progress

    async def _store_progress(self, lease: Lease) -> None:
        """Store progress that no heartbeat has stored yet, for the next holder."""
        if lease.progress is not lease.stored:
            await self._retrying(lambda: self._heartbeat(lease))

    async def _fail(self, lease: Lease, error: Exception) -> None:
        item, retry_in = lease.item, self._retries.retry_in(error, lease.item.attempt)
        if retry_in is None:
            await self._retrying(lambda: self._on_failure(item, error))
        await self._store_progress(lease)
        await self._retrying(lambda: self._queue.fail(item, one_line(error), retry_in=retry_in))
        log.warning("work.failed", reason=one_line(error), retry_in=retry_in)

    async def _retrying(self, action: Callable[[], Awaitable[T]]) -> T:
        return await retry_outages(action, wait_max=self._retries.outage_wait_max, event="work.waiting")

    async def _drain(self) -> None:
        """Let running items finish within `grace`; cancel and release the rest."""
        try:
            if self._running:
                await asyncio.wait(self._running, timeout=self._grace)
        finally:
            left = {task: lease for task, lease in self._running.items() if task.cancel()}
            await asyncio.gather(*left, return_exceptions=True)
            with _log_outages():
                async with asyncio.timeout(RELEASE_SECONDS):
                    await self._release(left.values())

    async def _release(self, leases: Iterable[Lease]) -> None:
        """Store the last progress of `leases`, and release all items of this worker."""
        for lease in leases:
            with suppress(LeaseLost):
                if lease.progress is not lease.stored:
                    await self._heartbeat(lease)
        log.info("work.drained", released=await self._queue.release_all(self.name))


@contextmanager
def _log_outages() -> Iterator[None]:
    """Log and ignore an outage: the lease is in the row, and fencing protects against late writes."""
    try:
        yield
    except Exception as error:
        if not is_outage(error):
            raise
        log.warning("work.lease_unattended", reason=one_line(error))

"""A claimed item in the hands of its handler."""

import asyncio
from collections.abc import Mapping
from typing import Any

from shared.work.item import Item, LeaseLost, WorkCancelled


class Lease:
    """A claimed item that a handler works on.

    `progress` is the newest report; at first that of an earlier holder, if there was one. `cancelled` is set within
    one heartbeat of a request to cancel; `check` then raises, and the worker confirms.
    """

    def __init__(self, item: Item) -> None:
        self.item = item
        self.progress: Mapping[str, Any] | None = item.progress
        self.stored: Mapping[str, Any] | None = item.progress
        self.lost = False
        self.cancelled = asyncio.Event()
        self.reschedule_in: float | None = None
        self.beat = asyncio.Event()
        if item.cancel_requested:
            self.cancelled.set()

    def report(self, progress: Mapping[str, Any]) -> None:
        """Report progress as JSON; the next heartbeat stores the newest. Cheap, from any thread."""
        self.progress = dict(progress)

    def reschedule(self, seconds: float, progress: Mapping[str, Any] | None = None) -> None:
        """Let the worker return the item to the queue once the handler returns, claimable after `seconds`.

        For waiting without a lease, such as polling a scheduler: it is no attempt, and the next holder gets the newest
        progress.
        """
        self.reschedule_in = seconds
        if progress is not None:
            self.report(progress)

    def check(self) -> None:
        """Raise LeaseLost or WorkCancelled if a heartbeat has found that; cheap, from any thread."""
        if self.lost:
            raise LeaseLost(self.item)
        if self.cancelled.is_set():
            raise WorkCancelled(self.item)

"""How full the object store's disk is."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from prometheus_client import Gauge

from services.ingress.core.problems import HttpProblem
from services.ingress.settings import IngressSettings

USED = Gauge("disk_used", "Percent of the object store's disk that is in use, as df counts.")


class Incoming(Protocol):
    """A body on its way to the disk."""

    when_growing: Callable[[], None] | None
    """Called about every 8 MiB while the length is unknown."""

    @property
    def left(self) -> int:
        """Return how many bytes are still missing; 0 if the length is unknown."""


class Disk:
    """Measure the usage of the disk of `PENSTOCK_DISK_PATH`."""

    def __init__(self, settings: IngressSettings) -> None:
        self._path: Path = settings.disk_path
        self._threshold = settings.disk_usage_threshold
        self._incoming: set[Incoming] = set()
        USED.set_function(self.used)

    def used(self) -> float:
        """Return the percentage in use."""
        return self._percent_used(0)

    @contextmanager
    def reserve(self, body: Incoming) -> Iterator[None]:
        """Reserve disk space for a body while it arrives; raise DISK_FULL if the threshold would be exceeded."""
        self.refuse_when_full(body.left + sum(one.left for one in self._incoming))
        self._incoming.add(body)
        body.when_growing = self._refuse_growing
        try:
            yield
        finally:
            self._incoming.discard(body)

    def _refuse_growing(self) -> None:
        self.refuse_when_full(sum(one.left for one in self._incoming))

    def _percent_used(self, extra: int) -> float:
        """Count as `df` does: of what users may fill; blocks that are reserved for root are neither used nor free."""
        usage = shutil.disk_usage(self._path)
        return round(100 * (usage.used + extra) / max(usage.used + usage.free, 1), 2)

    def refuse_when_full(self, extra: int = 0) -> None:
        """Raise DISK_FULL past the threshold, or when `more` bytes would pass it."""
        if (used := self._percent_used(extra)) > self._threshold:
            raise HttpProblem(
                "DISK_FULL",
                f"the disk is {used:.0f} % full with what comes, and uploads end at {self._threshold:g} %: make room, "
                "or raise PENSTOCK_DISK_USAGE_THRESHOLD",
            )

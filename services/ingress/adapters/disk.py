"""How full the object store's disk is."""

import shutil
from pathlib import Path

from prometheus_client import Gauge

from services.ingress.core.problems import Problem
from services.ingress.settings import IngressSettings

USED = Gauge("disk_used", "Percent of the object store's disk that is in use.")


class Disk:
    """Looks at the disk that `PENSTOCK_DISK_PATH` is on."""

    def __init__(self, settings: IngressSettings) -> None:
        self._path: Path = settings.disk_path
        self._threshold = settings.disk_usage_threshold
        USED.set_function(self.used)

    def used(self) -> float:
        """Return the percentage in use."""
        usage = shutil.disk_usage(self._path)
        return round(100 * (usage.total - usage.free) / usage.total, 2)

    def refuse_when_full(self) -> None:
        """Raise DISK_FULL past the threshold."""
        if (used := self.used()) > self._threshold:
            raise Problem(
                "DISK_FULL",
                f"the disk is {used:.0f} % full, and uploads end at {self._threshold:g} %: make room, "
                "or raise PENSTOCK_DISK_USAGE_THRESHOLD",
            )

"""CPU time and memory of processes, their children included, from /proc."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import psutil

from deploy.native.process import Process

MIB = 1 << 20


@dataclass(slots=True)
class CpuMeter:
    """CPU time that processes use between `start` and `read`; children that ended meanwhile count by their parents."""

    groups: dict[str, Sequence[Process]]
    _before: dict[str, float] = field(default_factory=dict)

    def start(self) -> None:
        self._before = {name: _cpu(processes) for name, processes in self.groups.items()}

    def read(self, per: int) -> dict[str, float]:
        """Return microseconds for each of `per` pieces of work, by group."""
        return {name: (_cpu(processes) - self._before[name]) / per * 1e6 for name, processes in self.groups.items()}


def _cpu(processes: Sequence[Process]) -> float:
    return sum(_times(one) for process in processes if process.pid for one in _family(process.pid))


def _family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _times(process: psutil.Process) -> float:
    try:
        return sum(process.cpu_times()[:4])
    except psutil.Error:
        return 0.0


def rss(process: Process) -> float:
    """Resident MiB now."""
    return round(psutil.Process(process.pid).memory_info().rss / MIB, 1)


def peak(process: Process) -> float:
    """The most MiB that were ever resident in this run of a process (VmHWM)."""
    with open(f"/proc/{process.pid}/status") as file:  # noqa: PTH123
        return round(next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024, 1)

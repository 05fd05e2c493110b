"""What a process holds in memory."""

import re
from pathlib import Path


def resident(pid: int | None) -> int:
    """Return the bytes that a process has in memory now."""
    return _status(pid, "VmRSS")


def peak(pid: int | None) -> int:
    """Return the most it had since `reset_peak`, or since its start."""
    return _status(pid, "VmHWM")


def reset_peak(pid: int | None) -> None:
    """Begin to look for the most anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _status(pid: int | None, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None, (pid, name)
    return int(found[1]) << 10

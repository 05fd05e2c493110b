"""Results of checks: a name, whether it passed, the detail and the fix."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

FIX_COMMAND: Final = "penstock doctor --fix"
START_COMMAND: Final = "make up"
MAX_SKEW_SECONDS: Final = 5.0
MIN_FREE_BYTES: Final = 1 << 30
MIN_FREE_SHARE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    name: str
    ok: bool
    detail: str
    fix: str = ""

    def document(self) -> dict[str, Any]:
        """Return the JSON document; a passed check has no fix."""
        return asdict(self) | {"fix": self.fix if self.fix and not self.ok else None}


def topics(required: Mapping[str, int], existing: Mapping[str, int]) -> Finding:
    """Compare partition counts by topic; more partitions than required are fine."""
    missing = sorted(name for name in required if name not in existing)
    small = sorted(name for name, count in required.items() if name in existing and existing[name] < count)
    faults = [f"missing {', '.join(missing)}"] if missing else []
    faults += [f"too few partitions in {', '.join(small)}"] if small else []
    return Finding("topics", not faults, "; ".join(faults) or f"{len(required)} topics", FIX_COMMAND)


def buckets(required: Sequence[str], existing: Sequence[str]) -> Finding:
    """Compare the buckets."""
    missing = [name for name in required if name not in existing]
    detail = f"missing {', '.join(missing)}" if missing else f"{len(required)} buckets"
    return Finding("buckets", not missing, detail, FIX_COMMAND)


def skew(name: str, theirs: datetime, sent: datetime, received: datetime, resolution: float = 0.0) -> Finding:
    """Compare a server's clock with ours.

    `theirs` is the time in its response, rounded down to `resolution` seconds, to a request that was `sent` and whose
    response was `received` at these times of our clock.
    """
    late = (theirs - received).total_seconds()
    early = (sent - theirs).total_seconds() - resolution
    seconds = max(late, early, 0.0)
    detail = f"{seconds:.1f} s from ours" if seconds > 1 else "same time as ours"
    return Finding(f"clock of {name}", seconds <= MAX_SKEW_SECONDS, detail, "set the clocks by NTP (timedatectl)")


def disk(path: str, free: int, total: int) -> Finding:
    """Check the free bytes of a file system: at least 1 GiB and 5 %."""
    share = free / total if total else 0.0
    ok = free >= MIN_FREE_BYTES and share >= MIN_FREE_SHARE
    detail = f"{free / (1 << 30):.1f} GiB free ({share:.0%}) at {path}"
    return Finding("disk", ok, detail, f"free space on the file system of {path}")

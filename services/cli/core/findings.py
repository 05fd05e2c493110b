"""What a check found: a name, whether it is well, what was seen and how to mend it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

FIX: Final = "penstock doctor --fix"
START: Final = "make up"
MAX_SKEW_SECONDS: Final = 5.0
MIN_FREE: Final = 1 << 30
MIN_FREE_SHARE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    name: str
    ok: bool
    detail: str
    fix: str = ""

    def document(self) -> dict[str, Any]:
        """Return it for a program; what is well needs no mend."""
        return asdict(self) | {"fix": self.fix if self.fix and not self.ok else None}


def topics(wanted: Mapping[str, int], there: Mapping[str, int]) -> Finding:
    """Compare partitions by topic with what there is; more than wanted is well."""
    missing = sorted(name for name in wanted if name not in there)
    small = sorted(name for name, count in wanted.items() if name in there and there[name] < count)
    faults = [f"missing {', '.join(missing)}"] if missing else []
    faults += [f"too few partitions in {', '.join(small)}"] if small else []
    return Finding("topics", not faults, "; ".join(faults) or f"{len(wanted)} topics", FIX)


def buckets(wanted: Sequence[str], there: Sequence[str]) -> Finding:
    """Compare the buckets with what there is."""
    missing = [name for name in wanted if name not in there]
    detail = f"missing {', '.join(missing)}" if missing else f"{len(wanted)} buckets"
    return Finding("buckets", not missing, detail, FIX)


def skew(name: str, theirs: datetime, sent: datetime, received: datetime, resolution: float = 0.0) -> Finding:
    """Compare a server's clock with ours: its answer was made between `sent` and `received`, give or take."""
    late = (theirs - received).total_seconds()
    early = (sent - theirs).total_seconds() - resolution
    seconds = max(late, early, 0.0)
    detail = f"{seconds:.1f} s apart" if seconds > 1 else "together with ours"
    return Finding(f"clock of {name}", seconds <= MAX_SKEW_SECONDS, detail, "set the clocks by NTP (timedatectl)")


def disk(path: str, free: int, total: int) -> Finding:
    """Judge free bytes of a file system: at least 1 GiB and a twentieth."""
    share = free / total if total else 0.0
    ok = free >= MIN_FREE and share >= MIN_FREE_SHARE
    detail = f"{free / (1 << 30):.1f} GiB free ({share:.0%}) at {path}"
    return Finding("disk", ok, detail, f"make room on the file system of {path}")

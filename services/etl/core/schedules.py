"""When full loads are due: at a fixed interval, or by a cron expression in UTC."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cronsim import CronSim, CronSimError

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")
_UNIT_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
HINT: Final = "say a number with s, m or h such as 25m, cron text such as */25 * * * *, or 0 for never"


@dataclass(frozen=True, slots=True)
class Interval:
    """Due times, aligned to the epoch, so that all processes compute the same ones."""

    seconds: float = 0.0
    cron: str = ""

    @classmethod
    def parse(cls, text: str) -> "Interval":
        """Parse `25m`, `90s`, `2h`, plain seconds, a cron expression, or 0 for never; raise ValueError with a hint."""
        text = text.strip()
        if (match := _DURATION.fullmatch(text)) is not None:
            return cls(seconds=float(match[1]) * _UNIT_SECONDS[match[2]])
        try:
            next(CronSim(text, datetime.now(UTC)))
        except (CronSimError, StopIteration):
            raise ValueError(f"{text!r} is not an interval; {HINT}") from None
        return cls(cron=text)

    def after(self, now: datetime) -> datetime | None:
        """Return the next due time after `now`; None for never."""
        if self.cron:
            return next(CronSim(self.cron, now), None)
        if not self.seconds:
            return None
        return datetime.fromtimestamp((now.timestamp() // self.seconds + 1) * self.seconds, UTC)

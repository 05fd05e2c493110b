"""When everything is compared with its bucket: every so often, or by cron text in UTC."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cronsim import CronSim, CronSimError

_EVERY: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
MEND: Final = "say a number with s, m or h such as 25m, cron text such as */25 * * * *, or 0 for never"


@dataclass(frozen=True, slots=True)
class Interval:
    """The times at which something is due; the same for everybody, so that several processes agree on them."""

    every: float = 0.0
    cron: str = ""

    @classmethod
    def parse(cls, text: str) -> "Interval":
        """Read `25m`, `90s`, `2h`, plain seconds, cron text, or 0: never; raises ValueError with the mend."""
        text = text.strip()
        if (told := _EVERY.fullmatch(text)) is not None:
            return cls(every=float(told[1]) * _SECONDS[told[2]])
        try:
            next(CronSim(text, datetime.now(UTC)))
        except (CronSimError, StopIteration):
            raise ValueError(f"{text!r} is no interval; {MEND}") from None
        return cls(cron=text)

    def after(self, now: datetime) -> datetime | None:
        """Return the next time; None: never."""
        if self.cron:
            return next(CronSim(self.cron, now), None)
        if not self.every:
            return None
        return datetime.fromtimestamp((now.timestamp() // self.every + 1) * self.every, UTC)

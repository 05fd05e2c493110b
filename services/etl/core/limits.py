"""How many rows of a file may be wrong before the file is."""

from dataclasses import dataclass
from typing import Final

from services.etl.core.rejects import RejectedFile

MAX_REJECTED_ROWS: Final = 100_000
"""A rejected row costs many times what a good one does: this many are explained, whatever the share of good ones."""


@dataclass(slots=True)
class RowCount:
    """Counts the rows of one file; beyond MAX_REJECTED_ROWS, most of what was read has to be good."""

    good: int = 0
    rejected: int = 0

    def add(self, *, good: int = 0, rejected: int = 0) -> None:
        """Count rows; raises Refused once the file is not worth reading on."""
        self.good += good
        self.rejected += rejected
        if self.rejected > MAX_REJECTED_ROWS and self.rejected > self.good:
            raise RejectedFile(
                "TOO_MANY_REJECTS",
                f"more than {MAX_REJECTED_ROWS:,} rows and most of the file are wrong; "
                "look at how it was written, or load its first lines to see why",
            )

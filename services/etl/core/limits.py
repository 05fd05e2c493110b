"""Limit of rejected rows per file."""

from dataclasses import dataclass
from typing import Final

from services.etl.core.rejects import RejectedFile

MAX_REJECTED_ROWS: Final = 100_000
"""Rejected rows allowed in any file; more only if most rows are valid, because a rejected row is expensive."""


@dataclass(slots=True)
class RowCount:
    """Counts the rows of one file; after MAX_REJECTED_ROWS rejects, most rows must be valid."""

    good: int = 0
    rejected: int = 0

    def add(self, *, good: int = 0, rejected: int = 0) -> None:
        """Count rows; raise RejectedFile once too many are rejected."""
        self.good += good
        self.rejected += rejected
        if self.rejected > MAX_REJECTED_ROWS and self.rejected > self.good:
            raise RejectedFile(
                "TOO_MANY_REJECTS",
                f"more than {MAX_REJECTED_ROWS:,} rows and most of the file are wrong; "
                "look at how it was written, or load its first lines to see why",
            )

"""Statistics of rows and ages, and their JSON form."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

SPAN_YEARS: Final = 10
"""Years of one bar of the histogram."""


@dataclass(frozen=True, slots=True)
class AgeSpan:
    """The rows with an age from `start` to below `start` + SPAN_YEARS; `start` None: rows without an age."""

    start: int | None
    rows: int
    with_image: int
    years: int
    youngest: int | None
    oldest: int | None


@dataclass(frozen=True, slots=True)
class HistogramBar:
    """One bar of the histogram; `percent` is its length against the longest."""

    start: int
    end: int
    rows: int
    percent: float


def summarize(spans: Sequence[AgeSpan]) -> dict[str, Any]:
    """Return the statistics as JSON; ages are null if no row has one."""
    aged = [one for one in spans if one.start is not None]
    rows, with_image = sum(one.rows for one in spans), sum(one.with_image for one in spans)
    known = sum(one.rows for one in aged)
    return {
        "count": rows,
        "with_image": with_image,
        "without_image": rows - with_image,
        "average_age": round(sum(one.years for one in aged) / known, 1) if known else None,
        "min_age": min((one.youngest for one in aged if one.youngest is not None), default=None),
        "max_age": max((one.oldest for one in aged if one.oldest is not None), default=None),
        "ages": [{"from": bar.start, "to": bar.end, "count": bar.rows} for bar in histogram(spans)],
    }


def histogram(spans: Sequence[AgeSpan]) -> list[HistogramBar]:
    """Return the histogram from the youngest to the oldest, including empty bars."""
    counts = {one.start: one.rows for one in spans if one.start is not None}
    if not counts:
        return []
    longest = max(counts.values())
    starts = range(min(counts), max(counts) + SPAN_YEARS, SPAN_YEARS)
    return [
        HistogramBar(start, start + SPAN_YEARS - 1, found := counts.get(start, 0), round(100 * found / longest, 2))
        for start in starts
    ]

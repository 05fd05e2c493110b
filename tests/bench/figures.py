"""Numbers with their goals."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Figure:
    """One number, its range, and its goal; `rate` over the limit of that name says how near to the machine it is."""

    name: str
    unit: str
    value: float
    low: float
    high: float
    at_least: float | None = None
    at_most: float | None = None
    rate: float | None = None
    limit: str | None = None
    beside: Mapping[str, Any] = field(default_factory=dict)
    """What the number is made of."""

    @classmethod
    def median(cls, name: str, unit: str, runs: Sequence[float], **more: Any) -> Self:
        return cls(name, unit, rounded(statistics.median(runs)), rounded(min(runs)), rounded(max(runs)), **more)

    @property
    def met(self) -> bool:
        return (self.at_least is None or self.value >= self.at_least) and (self.at_most is None or self.value <= self.at_most)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met}


def rounded(number: float) -> float:
    """Three digits, or whole numbers where there are more."""
    return float(f"{number:.3g}") if abs(number) < 1000 else round(number)  # noqa: PLR2004


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [mine / its for mine, its in zip(ours, theirs, strict=True)]


def middle(runs: Sequence[float]) -> float:
    return rounded(statistics.median(runs))


def middles(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of each entry."""
    return {name: middle([run[name] for run in runs]) for name in runs[0]}


def abba(pair: int, sides: Sequence[str]) -> Sequence[str]:
    """Return the order of the sides in this pair: A B, then B A, so that a drift of the machine favours nobody."""
    return sides if pair % 2 == 0 else sides[::-1]

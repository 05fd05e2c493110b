"""Numbers with their goals."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
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
        return (self.at_least is None or self.value >= self.at_least) and (
            self.at_most is None or self.value <= self.at_most
        )

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met}


def rounded(number: float) -> float:
    """Three digits, or whole numbers where there are more."""
    return float(f"{number:.3g}") if abs(number) < 1000 else round(number)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [mine / its for mine, its in zip(ours, theirs, strict=True)]


def median(runs: Sequence[float]) -> float:
    return rounded(statistics.median(runs))


def medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of each entry."""
    return {name: median([run[name] for run in runs]) for name in runs[0]}


def alternating_runs(pairs: int, sides: tuple[str, str]) -> Iterator[tuple[str, bool]]:
    """Yield sides and whether to count them: one of each to warm everything up, then A B, B A, A B ...

    The order favours nobody when the machine drifts; the warm-up is Kafka's compiler and everybody's caches.
    """
    yield from ((side, False) for side in sides)
    for pair in range(pairs):
        yield from ((side, True) for side in (sides if pair % 2 == 0 else sides[::-1]))

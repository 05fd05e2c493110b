"""What every scenario is given, and what it returns."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from figures import Figure

CORES = os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Options:
    """How much to measure: `pairs` of runs, each with so many small `objects`; `large` is a large object's bytes.

    Etl reads `users`, each a file and an image, and files of `rows` and of `rows_most`.
    """

    pairs: int = 5
    objects: int = 5000
    samples: int = 200
    large: int = 1 << 30
    users: int = 20_000
    rows: int = 1_000_000
    rows_most: int = 10_000_000


@dataclass(frozen=True, slots=True)
class Result:
    """Figures, the limits of the machine, and every single run behind them."""

    figures: Sequence[Figure] = ()
    limits: Mapping[str, Any] = field(default_factory=dict)
    runs: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "figures": [one.as_json() for one in self.figures],
            "limits": dict(self.limits),
            "runs": dict(self.runs),
        }

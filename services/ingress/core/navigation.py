"""Navigation between pages: a routes module lists its entries in `NAVIGATION`."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NavigationEntry:
    """One link of the navigation; `rank` is its position, `icon` a name in `parts/icons.html`."""

    label: str
    path: str
    icon: str
    rank: int


def ordered(entries: Iterable[NavigationEntry]) -> tuple[NavigationEntry, ...]:
    """Return the entries as they are shown."""
    return tuple(sorted(entries, key=lambda one: (one.rank, one.label)))

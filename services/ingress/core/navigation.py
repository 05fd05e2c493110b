"""The way around the pages: a module of routes that has a page to be found there says so in its `NAVIGATION`."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NavigationEntry:
    """One link of the navigation; `rank` orders them, `icon` is the name of one in `parts/icons.html`."""

    label: str
    path: str
    icon: str
    rank: int


def ordered(entries: Iterable[NavigationEntry]) -> tuple[NavigationEntry, ...]:
    """Return the entries as they are shown."""
    return tuple(sorted(entries, key=lambda one: (one.rank, one.label)))

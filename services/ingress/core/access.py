"""Who may do what."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

Scope = Literal["read", "write", "run", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever sent a request: the token behind it, never the token itself.

    `places` are `bucket/prefix` beginnings that it sees; empty sees everything. `rate` is what it may send, in
    requests a second; None is the usual.
    """

    id: str
    name: str
    scopes: frozenset[Scope]
    places: tuple[str, ...] = ()
    rate: float | None = None

    def may(self, scope: Scope) -> bool:
        """Tell whether it may do what needs `scope`; who administers may do everything."""
        return scope in self.scopes or "admin" in self.scopes

    def sees(self, bucket: str, key: str) -> bool:
        """Tell whether an object is one of its own; others do not exist for it."""
        place = f"{bucket}/{key}"
        return not self.places or any(place.startswith(beginning) for beginning in self.places)

    def may_give(self, places: tuple[str, ...]) -> bool:
        """Tell whether all of `places` are its own, so that a token made by it sees no more than it does."""
        return not self.places or (bool(places) and all(self.sees(*one.split("/", 1)) for one in places))


ROOT: Final = Principal("root", "root", frozenset(SCOPES))
"""The bearer of PENSTOCK_TOKEN."""
EVERYBODY: Final = Principal("everybody", "everybody", frozenset(SCOPES))
"""Whoever comes while PENSTOCK_AUTH=none."""

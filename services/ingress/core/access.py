"""Who may do what."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

Scope = Literal["read", "write", "run", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever sent a request: the token behind it, never the token itself.

    `places` are `bucket/prefix` beginnings that it sees; empty sees everything.
    """

    id: str
    name: str
    scopes: frozenset[Scope]
    places: tuple[str, ...] = ()

    def may(self, scope: Scope) -> bool:
        """Tell whether it may do what needs `scope`; who administers may do everything."""
        return scope in self.scopes or "admin" in self.scopes

    def sees(self, bucket: str, key: str) -> bool:
        """Tell whether an object is one of its own; others do not exist for it."""
        place = f"{bucket}/{key}"
        return not self.places or any(place.startswith(beginning) for beginning in self.places)


ROOT: Final = Principal("root", "root", frozenset(SCOPES))
"""The bearer of PENSTOCK_TOKEN."""
EVERYBODY: Final = Principal("everybody", "everybody", frozenset(SCOPES))
"""Whoever comes while PENSTOCK_AUTH=none."""

"""Who may do what."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, get_args

from shared.errors import Rejected

Scope = Literal["read", "write", "run", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever sent a request: the token behind it, never the token itself.

    `places` are `bucket/prefix` beginnings that it sees; empty sees everything. `rate` is what it may send, in
    requests a second; None is the usual. `rates` are those of the tokens it descends from, by id: its requests count
    there too, so that many tokens made by one send no more than that one may. None as `expires_at` is no end.
    """

    id: str
    name: str
    scopes: frozenset[Scope]
    prefixes: tuple[str, ...] = ()
    rate: float | None = None
    rates: tuple[tuple[str, float], ...] = ()
    expires_at: datetime | None = None

    @property
    def administers(self) -> str | None:
        """The id of the token whose descendants alone it may see and end; None where it administers everything."""
        return self.id if self.prefixes else None

    def may(self, scope: Scope) -> bool:
        """Tell whether it may do what needs `scope`; who administers may do everything."""
        return scope in self.scopes or "admin" in self.scopes

    def sees(self, bucket: str, key: str) -> bool:
        """Tell whether an object is one of its own; others do not exist for it."""
        object_key = f"{bucket}/{key}"
        return not self.prefixes or any(object_key.startswith(prefix) for prefix in self.prefixes)

    def may_grant(self, prefixes: tuple[str, ...]) -> bool:
        """Tell whether all of `places` are its own, so that a token made by it sees no more than it does."""
        return not self.prefixes or (bool(prefixes) and all(self.sees(*one.split("/", 1)) for one in prefixes))

    def require_may_grant(
        self, scopes: Iterable[Scope], prefixes: tuple[str, ...], rate: float | None, expires_at: datetime | None
    ) -> None:
        """Refuse a token that could do more, or for longer, than the one that makes it.

        Raises Rejected: WRONG_SCOPE, WRONG_PLACE, EXCEEDS_OWN_RIGHTS.
        """
        if missing := sorted(scope for scope in scopes if not self.may(scope)):
            raise Rejected("WRONG_SCOPE", f"the token {self.name} lacks the scope {missing[0]} and cannot give it")
        if not self.may_grant(prefixes):
            own = ", ".join(self.prefixes)
            raise Rejected("WRONG_PLACE", f"the token {self.name} sees {own} alone: name places within")
        if self.rate is not None and rate is not None and rate > self.rate:
            raise Rejected("EXCEEDS_OWN_RIGHTS", f"{self.name} has the rate {self.rate:g}: ask for at most that")
        if self.expires_at is not None and expires_at is not None and expires_at > self.expires_at:
            until = f"{self.expires_at:%F %T} UTC"
            raise Rejected("EXCEEDS_OWN_RIGHTS", f"{self.name} expires on {until}: leave expires_in out to end with it")


ROOT: Final = Principal("root", "root", frozenset(SCOPES))
"""The bearer of PENSTOCK_TOKEN."""
ANONYMOUS: Final = "anonymous"
"""The id and name of whoever comes without a token to read an object that is open to everybody."""
EVERYBODY: Final = Principal("everybody", "everybody", frozenset(SCOPES))
"""Whoever comes while PENSTOCK_AUTH=none."""
_OBJECT: Final = re.compile(r"/objects/([^/]+)/.+", re.DOTALL)


def anonymous_reader(method: str, path: str, buckets: Collection[str]) -> Principal | None:
    """Return who may send this request without a token: to read one object of `buckets`, and nothing else."""
    found = _OBJECT.fullmatch(path) if method in {"GET", "HEAD"} else None
    if found is None or found[1] not in buckets:
        return None
    return Principal(ANONYMOUS, ANONYMOUS, frozenset({"read"}), (f"{found[1]}/",))

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
    """The authenticated sender of a request: its token's properties, never the token's text.

    `prefixes` are the `bucket/prefix` beginnings that it sees; empty means everything. `rate` is its limit in requests
    per second; None means the default. `rates` are the limits of the tokens it descends from, by id: its requests count
    there too, so that many child tokens together send no more than their parent may. `expires_at` None means never.
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
        """The id of the token whose descendants it may administer; None if it may administer all tokens."""
        return self.id if self.prefixes else None

    def may(self, scope: Scope) -> bool:
        """Return whether it has `scope`; admin includes every scope."""
        return scope in self.scopes or "admin" in self.scopes

    def sees(self, bucket: str, key: str) -> bool:
        """Return whether it may see an object; other objects do not exist for it."""
        object_key = f"{bucket}/{key}"
        return not self.prefixes or any(object_key.startswith(prefix) for prefix in self.prefixes)

    def may_grant(self, prefixes: tuple[str, ...]) -> bool:
        """Return whether all `prefixes` are within its own, so that a token made by it sees no more than it does."""
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
            raise Rejected("WRONG_PLACE", f"the token {self.name} sees only {own}: name prefixes within")
        if self.rate is not None and rate is not None and rate > self.rate:
            raise Rejected("EXCEEDS_OWN_RIGHTS", f"{self.name} has the rate {self.rate:g}: ask for at most that")
        if self.expires_at is not None and expires_at is not None and expires_at > self.expires_at:
            until = f"{self.expires_at:%F %T} UTC"
            raise Rejected("EXCEEDS_OWN_RIGHTS", f"{self.name} expires on {until}: leave expires_in out to end with it")


ROOT: Final = Principal("root", "root", frozenset(SCOPES))
"""The bearer of PENSTOCK_TOKEN."""
ANONYMOUS: Final = "anonymous"
"""Id and name of requests without a token that read a public object."""
EVERYBODY: Final = Principal("everybody", "everybody", frozenset(SCOPES))
"""The principal of every request while PENSTOCK_AUTH=none."""
_OBJECT: Final = re.compile(r"/objects/([^/]+)/.+", re.DOTALL)


def anonymous_reader(method: str, path: str, buckets: Collection[str]) -> Principal | None:
    """Return the principal that may send this request without a token: GET or HEAD of one object in `buckets`."""
    found = _OBJECT.fullmatch(path) if method in {"GET", "HEAD"} else None
    if found is None or found[1] not in buckets:
        return None
    return Principal(ANONYMOUS, ANONYMOUS, frozenset({"read"}), (f"{found[1]}/",))

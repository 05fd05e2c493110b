"""Routes declare which write-changing headers they honor; all others are refused before they run."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from starlette.requests import Request

from services.ingress.core.origins import SAFE_METHODS
from services.ingress.core.write_headers import header_map, refuse_unhonored

_HONORED: Final = "honored_headers"
_Route = TypeVar("_Route", bound=Callable[..., Any])


def honors(headers: frozenset[str]) -> Callable[[_Route], _Route]:
    """Return a decorator for a route that honors these headers; a name ending in `-` matches as a prefix."""

    def decorator(route: _Route) -> _Route:
        setattr(route, _HONORED, headers)
        return route

    return decorator


async def refuse_unhonored_headers(request: Request) -> None:
    """Refuse, for every route that may change something, the headers that it does not honor."""
    if request.method not in SAFE_METHODS:
        honored: frozenset[str] = getattr(request.scope.get("endpoint"), _HONORED, frozenset())
        refuse_unhonored(header_map(request.headers.raw), honored)

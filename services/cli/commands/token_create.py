"""`penstock token create`: a token for another person or program."""

from typing import Annotated, Any, Literal

from cyclopts import Parameter

from services.cli.adapters.http import IngressClient
from services.cli.core.text import parse_duration
from services.cli.core.usage import UsageError
from services.cli.settings import load
from services.cli.terminal import Json, note, print_json, say


async def create_token(  # noqa: PLR0913 - flags of the command
    name: str,
    *,
    scope: tuple[Literal["read", "write", "run", "admin"], ...],
    prefix: Annotated[tuple[str, ...], Parameter(alias="--place")] = (),
    rate: float | None = None,
    expires: str = "",
    url: str = "",
    json: Json = False,
) -> int:
    """Create a token and print it, once.

    For example:
        penstock token create lab --scope read --scope write --prefix inbox/lab/
        penstock token create dashboard --scope read --expires 30d --rate 50
        penstock token create robot --scope run --json | jq -r .token

    Parameters
    ----------
    name:
        Name of its owner in logs.
    scope:
        What its bearer may do: read, write, run or admin; admin may do everything. Repeat the flag for several scopes.
    prefix:
        The bucket/prefix that its bearer sees; default: everything. Repeat the flag for several prefixes.
    rate:
        Maximum requests per second (PENSTOCK_RATE_LIMIT).
    expires:
        How long it is valid: 90s, 10m, 2h, 30d; default: until it is revoked.
    url:
        URL of the ingress (PENSTOCK_HTTP_URL).

    """
    request = {
        "name": name,
        "scopes": list(scope),
        "places": list(prefix),
        "rate": rate,
        "expires_in": _seconds(expires),
    }
    async with IngressClient.from_settings(load(), url) as ingress:
        token = await ingress.create_token(request)
    if json:
        print_json(token)
    else:
        say(token["token"])
        note(_summary(token))
    return 0


def _seconds(text: str) -> float | None:
    try:
        return parse_duration(text).total_seconds() if text else None
    except ValueError as error:
        raise UsageError(f"token: {error}") from None


def _summary(token: dict[str, Any]) -> str:
    name, expires_at = token["name"], token["expires_at"]
    until = f"until {expires_at[:19]}Z" if expires_at else f"until penstock token revoke {name}"
    return f"{name} may {', '.join(token['scopes'])} {until}; save the token now, it is not shown again"

"""`penstock token create`: a token for somebody else."""

from typing import Any, Literal

from services.cli.adapters.http import Ingress
from services.cli.core.text import duration
from services.cli.core.usage import WrongUsage
from services.cli.settings import load
from services.cli.terminal import Json, emit, note, say


async def create_token(  # noqa: PLR0913 - flags of the command
    name: str,
    *,
    scope: tuple[Literal["read", "write", "run", "admin"], ...],
    place: tuple[str, ...] = (),
    rate: float | None = None,
    expires: str = "",
    url: str = "",
    json: Json = False,
) -> int:
    """Make a token and print it, this once.

    For example:
        penstock token create lab --scope read --scope write --place inbox/lab/
        penstock token create dashboard --scope read --expires 30d --rate 50
        penstock token create robot --scope run --json | jq -r .token

    Parameters
    ----------
    name:
        Whose it is; what its bearer does is logged under this name.
    scope:
        What its bearer may do: read, write, run, or admin, who may do everything. Give it several times for several.
    place:
        The bucket/prefix that its bearer sees; everything unless given. Give it several times for several.
    rate:
        Requests a second that its bearer may send (PENSTOCK_RATE_LIMIT).
    expires:
        For how long it holds: 90s, 10m, 2h, 30d; until it is revoked unless given.
    url:
        The ingress to ask (PENSTOCK_HTTP_URL).

    """
    wanted = {"name": name, "scopes": list(scope), "places": list(place), "rate": rate, "expires_in": _seconds(expires)}
    async with Ingress.of(load(), url) as ingress:
        made = await ingress.create_token(wanted)
    if json:
        emit(made)
    else:
        say(made["token"])
        note(_about(made))
    return 0


def _seconds(text: str) -> float | None:
    try:
        return duration(text).total_seconds() if text else None
    except ValueError as error:
        raise WrongUsage(f"token: {error}") from None


def _about(made: dict[str, Any]) -> str:
    until = f"until {made['expires_at'][:19]}Z" if made["expires_at"] else f"until penstock token revoke {made['name']}"
    return f"{made['name']} may {', '.join(made['scopes'])} {until}; its text is not shown again"

"""`penstock token revoke`: a token that nobody may use any more."""

from typing import Any

from services.cli.adapters.http import Ingress
from services.cli.settings import load
from services.cli.terminal import Json, emit, say
from shared.errors import Rejected
from shared.text import visible


async def revoke_token(token: str, *, url: str = "", json: Json = False) -> int:
    """Revoke a token at once, and with it all that was made by it: tokens, browsers, webhooks, streams, open uploads.

    For example:
        penstock token revoke lab
        penstock token revoke 0123456789abcdef --json

    Parameters
    ----------
    token:
        Its name or its id.
    url:
        The ingress to ask (PENSTOCK_HTTP_URL).

    """
    async with Ingress.of(load(), url) as ingress:
        found = _one([one for one in await ingress.tokens() if token in {one["id"], one["name"]}], token)
        await ingress.revoke_token(found["id"])
    if json:
        emit({"revoked": found})
    else:
        say(f"{found['name']} ({found['id']}) is revoked")
    return 0


def _one(found: list[dict[str, Any]], token: str) -> dict[str, Any]:
    """Return the one token that is meant.

    Raises Rejected: NO_SUCH_TOKEN, AMBIGUOUS_NAME.
    """
    shown = visible(token, 80)
    if not found:
        raise Rejected("NO_SUCH_TOKEN", f"token: no live one is called {shown}; see penstock token list")
    if len(found) > 1:
        ids = ", ".join(one["id"] for one in found)
        raise Rejected("AMBIGUOUS_NAME", f"token: {len(found)} live ones are called {shown}; give one of the ids {ids}")
    return found[0]

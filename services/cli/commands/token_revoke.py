"""`penstock token revoke`: a token that nobody may use any more."""

from services.cli.adapters.http import Ingress
from services.cli.settings import load
from services.cli.terminal import Json, emit, say
from shared.errors import Rejected
from shared.text import visible


async def revoke_token(token: str, *, url: str = "", json: Json = False) -> int:
    """Revoke a token at once, and with it the browsers that it logged in.

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
        found = next((one for one in await ingress.tokens() if token in {one["id"], one["name"]}), None)
        if found is None:
            raise Rejected(
                "NO_SUCH_TOKEN", f"token: no live one is called {visible(token, 80)}; see penstock token list"
            )
        await ingress.revoke_token(found["id"])
    if json:
        emit({"revoked": found})
    else:
        say(f"{found['name']} ({found['id']}) is revoked")
    return 0

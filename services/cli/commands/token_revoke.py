"""`penstock token revoke`: invalidate a token."""

from typing import Any

from services.cli.adapters.http import IngressClient
from services.cli.settings import load
from services.cli.terminal import Json, print_json, say
from shared.errors import Rejected
from shared.text import visible


async def revoke_token(token: str, *, url: str = "", json: Json = False) -> int:
    """Revoke a token at once, with all that was created by it: tokens, sessions, webhooks, streams, open uploads.

    For example:
        penstock token revoke lab
        penstock token revoke 0123456789abcdef --json

    Parameters
    ----------
    token:
        Its name or id.
    url:
        URL of the ingress (PENSTOCK_HTTP_URL).

    """
    async with IngressClient.from_settings(load(), url) as ingress:
        found = _one([one for one in await ingress.tokens() if token in {one["id"], one["name"]}], token)
        await ingress.revoke_token(found["id"])
    if json:
        print_json({"revoked": found})
    else:
        say(f"{found['name']} ({found['id']}) was revoked")
    return 0


def _one(found: list[dict[str, Any]], token: str) -> dict[str, Any]:
    """Return the only token in `found`.

    Raises Rejected: NO_SUCH_TOKEN, AMBIGUOUS_NAME.
    """
    shown = visible(token, 80)
    if not found:
        raise Rejected("NO_SUCH_TOKEN", f"token: no valid token has the name or id {shown}: see penstock token list")
    if len(found) > 1:
        ids = ", ".join(one["id"] for one in found)
        raise Rejected(
            "AMBIGUOUS_NAME", f"token: {len(found)} valid tokens are named {shown}: give one of the ids {ids}"
        )
    return found[0]

"""`penstock token list`: which tokens hold."""

from typing import Any

from services.cli.adapters.http import Ingress
from services.cli.settings import load
from services.cli.terminal import Json, console, emit, say, table
from shared.text import visible


async def list_token(*, url: str = "", json: Json = False) -> int:
    """List the tokens that hold; their texts are kept nowhere.

    For example:
        penstock token list
        penstock token list --json | jq -r '.tokens[].name'

    Parameters
    ----------
    url:
        The ingress to ask (PENSTOCK_HTTP_URL).

    """
    async with Ingress.of(load(), url) as ingress:
        found = await ingress.tokens()
    if json:
        emit({"tokens": found})
    elif found:
        _show(found)
    else:
        say("no tokens but the first one, PENSTOCK_TOKEN", style="green")
    return 0


def _show(found: list[dict[str, Any]]) -> None:
    made = table("id", "name", "scopes", "made by", "expires", "last used", "places")
    for one in found:
        made.add_row(
            one["id"],
            visible(one["name"]),
            " ".join(one["scopes"]),
            visible(one["created_by"]),
            _moment(one["expires_at"], "never"),
            _moment(one["last_used_at"], "-"),
            visible(" ".join(one["places"]) or "all"),
        )
    console().print(made)


def _moment(text: str | None, otherwise: str) -> str:
    return f"{text[:16]}Z" if text else otherwise

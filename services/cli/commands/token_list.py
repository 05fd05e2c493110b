"""`penstock token list`: the valid tokens."""

from typing import Any

from services.cli.adapters.http import IngressClient
from services.cli.settings import load
from services.cli.terminal import Json, console, print_json, say, table
from shared.text import visible


async def list_token(*, url: str = "", json: Json = False) -> int:
    """List the valid tokens; their texts are not stored.

    For example:
        penstock token list
        penstock token list --json | jq -r '.tokens[].name'

    Parameters
    ----------
    url:
        URL of the ingress (PENSTOCK_HTTP_URL).

    """
    async with IngressClient.from_settings(load(), url) as ingress:
        found = await ingress.tokens()
    if json:
        print_json({"tokens": found})
    elif found:
        _show(found)
    else:
        say("no tokens except PENSTOCK_TOKEN", style="green")
    return 0


def _show(found: list[dict[str, Any]]) -> None:
    rows = table("id", "name", "scopes", "created by", "expires", "last used", "prefixes")
    for one in found:
        rows.add_row(
            one["id"],
            visible(one["name"]),
            " ".join(one["scopes"]),
            visible(one["created_by"]),
            _moment(one["expires_at"], "never"),
            _moment(one["last_used_at"], "-"),
            visible(" ".join(one["places"]) or "all"),
        )
    console().print(rows)


def _moment(text: str | None, otherwise: str) -> str:
    return f"{text[:16]}Z" if text else otherwise

"""`penstock login`: log in a browser without typing a token."""

from services.cli.adapters.http import IngressClient
from services.cli.settings import load
from services.cli.terminal import Json, note, print_json, say


async def login(*, url: str = "", json: Json = False) -> int:
    """Print a link that logs in one browser, once, within 15 minutes.

    The first browser that opens it is logged in with the rights of PENSTOCK_TOKEN.

    For example:
        penstock login
        penstock login --json | jq -r .url

    Parameters
    ----------
    url:
        URL of the ingress (PENSTOCK_HTTP_URL).

    """
    async with IngressClient.from_settings(load(), url) as ingress:
        link = await ingress.login_link()
    if json:
        print_json({"url": link})
    else:
        say(link)
        note("valid for one browser, once, for 15 minutes")
    return 0

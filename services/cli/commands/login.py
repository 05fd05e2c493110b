"""`penstock login`: a browser comes in without a token being typed."""

from services.cli.adapters.http import Ingress
from services.cli.settings import load
from services.cli.terminal import Json, emit, note, say


async def login(*, url: str = "", json: Json = False) -> int:
    """Print a link that logs one browser in, once, within 15 minutes.

    Whoever follows it first is logged in with the rights of PENSTOCK_TOKEN.

    For example:
        penstock login
        penstock login --json | jq -r .url

    Parameters
    ----------
    url:
        The ingress to ask (PENSTOCK_HTTP_URL).

    """
    async with Ingress.of(load(), url) as ingress:
        link = await ingress.login_link()
    if json:
        emit({"url": link})
    else:
        say(link)
        note("good for one browser, once, for 15 minutes")
    return 0

"""Small URL-encoded forms of pages: read whole, with the body replayed for the next reader."""

from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.types import Message, Receive

from services.ingress.adapters.bodies import Body
from services.ingress.core.encoding import require_utf8
from services.ingress.dependencies import dependencies_of
from shared.errors import Rejected

MAX_FORM_BYTES: Final = 64 << 10
KIND: Final = "application/x-www-form-urlencoded"


def is_small_form(request: Request) -> bool:
    """Return whether the body is a URL-encoded form."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == KIND


async def read_form(request: Request, limit: int = MAX_FORM_BYTES) -> tuple[dict[str, str], Receive]:
    """Return the fields of a URL-encoded form, and a receive that replays its body.

    Raises Rejected: NO_FORM, TOO_LARGE, NO_UTF8, and what `Body` raises.
    """
    if not is_small_form(request):
        raise Rejected("NO_FORM", f"the body is no form: send {KIND}, as curl -d does")
    raw = await Body(request, dependencies_of(request).settings).read_all(limit)
    require_utf8(b"", raw)
    try:
        fields = parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=100)
    except ValueError:
        raise Rejected("BROKEN_BODY", "the form has more than 100 fields: send fewer") from None
    return dict(fields), once_more(raw, request.receive)


def once_more(raw: bytes, rest: Receive) -> Receive:
    """Return a `receive` that replays a body that was read already."""
    waiting: list[Message] = [{"type": "http.request", "body": raw, "more_body": False}]

    async def receive() -> Message:
        return waiting.pop() if waiting else await rest()

    return receive

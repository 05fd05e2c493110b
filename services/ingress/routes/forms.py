"""Small forms of pages: read whole, and given on to whoever reads the body next."""

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
    """Tell whether the body is the plain form of a page; those that carry files are none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == KIND


async def read_form(request: Request, limit: int = MAX_FORM_BYTES) -> tuple[dict[str, str], Receive]:
    """Return the fields of a plain form, and what reads its body once more.

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

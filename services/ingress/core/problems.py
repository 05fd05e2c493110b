"""HttpProblem documents (RFC 9457): what is wrong, why and what to do in `detail`, and a stable `code`."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from shared.errors import Kind, PenstockError, kind_of, one_line

MEDIA_TYPE: Final = "application/problem+json"
RETRY_SECONDS: Final = 5

STATUS: Final[Mapping[str, HTTPStatus]] = {
    "NO_TOKEN": HTTPStatus.UNAUTHORIZED,
    "BAD_TOKEN": HTTPStatus.UNAUTHORIZED,
    "WRONG_SCOPE": HTTPStatus.FORBIDDEN,
    "WRONG_PLACE": HTTPStatus.FORBIDDEN,
    "EXCEEDS_OWN_RIGHTS": HTTPStatus.FORBIDDEN,
    "CROSS_SITE": HTTPStatus.FORBIDDEN,
    "BAD_CSRF": HTTPStatus.FORBIDDEN,
    "WRONG_HOST": HTTPStatus.MISDIRECTED_REQUEST,
    "NAME_TAKEN": HTTPStatus.CONFLICT,
    "NO_SUCH_TOKEN": HTTPStatus.NOT_FOUND,
    "ACCESS_DENIED": HTTPStatus.FORBIDDEN,
    "NOT_FOUND": HTTPStatus.NOT_FOUND,
    "NO_SUCH_BUCKET": HTTPStatus.NOT_FOUND,
    "STALLED": HTTPStatus.REQUEST_TIMEOUT,
    "LENGTH_REQUIRED": HTTPStatus.LENGTH_REQUIRED,
    "SUPERSEDED": HTTPStatus.PRECONDITION_FAILED,
    "TOO_LARGE": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "NO_FORM": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "RANGE_PAST_END": HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    "TOO_MANY_REQUESTS": HTTPStatus.TOO_MANY_REQUESTS,
    "HEAD_TOO_LARGE": HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "NO_HTTP": HTTPStatus.BAD_REQUEST,
    "BROKEN_BODY": HTTPStatus.BAD_REQUEST,
    "HEADER_REFUSED": HTTPStatus.BAD_REQUEST,
    "PARAMETER_REFUSED": HTTPStatus.BAD_REQUEST,
    "BAD_HEADER": HTTPStatus.BAD_REQUEST,
    "BAD_CONDITION": HTTPStatus.BAD_REQUEST,
    "CHECKSUM_MISMATCH": HTTPStatus.BAD_REQUEST,
    "LATE_FIELD": HTTPStatus.BAD_REQUEST,
    "EXPECTATION_FAILED": HTTPStatus.EXPECTATION_FAILED,
    "UPLOAD_TAKEN_OVER": HTTPStatus.BAD_REQUEST,
    "DISK_FULL": HTTPStatus.INSUFFICIENT_STORAGE,
    "TUS_VERSION": HTTPStatus.PRECONDITION_FAILED,
    "NO_SUCH_UPLOAD": HTTPStatus.NOT_FOUND,
    "UPLOAD_INCOMPLETE": HTTPStatus.CONFLICT,
    "UPLOAD_EXPIRED": HTTPStatus.GONE,
    "UPLOAD_BUSY": HTTPStatus.LOCKED,
    "OFFSET_DIFFERS": HTTPStatus.CONFLICT,
    "BAD_LENGTH": HTTPStatus.BAD_REQUEST,
    "BAD_OFFSET": HTTPStatus.BAD_REQUEST,
    "BAD_METADATA": HTTPStatus.BAD_REQUEST,
    "BAD_CHECKSUM": HTTPStatus.BAD_REQUEST,
    "WRONG_TYPE": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "METHOD_NOT_ALLOWED": HTTPStatus.METHOD_NOT_ALLOWED,
    "NO_SUCH_OBJECT": HTTPStatus.NOT_FOUND,
    "NO_SUCH_WEBHOOK": HTTPStatus.NOT_FOUND,
    "TOKEN_ENDED": HTTPStatus.CONFLICT,
    "TOO_MANY_STREAMS": HTTPStatus.SERVICE_UNAVAILABLE,
    "TOO_MANY_UPLOADS": HTTPStatus.SERVICE_UNAVAILABLE,
    "TOO_MANY_DOWNLOADS": HTTPStatus.SERVICE_UNAVAILABLE,
    "TOO_MANY_REQUESTS_AT_ONCE": HTTPStatus.SERVICE_UNAVAILABLE,
    "TOO_MANY_CONNECTIONS": HTTPStatus.SERVICE_UNAVAILABLE,
    "SHARE_USED_UP": HTTPStatus.TOO_MANY_REQUESTS,
    "QUOTA_USED_UP": HTTPStatus.CONFLICT,
    "TOO_MANY_LINKS": HTTPStatus.TOO_MANY_REQUESTS,
    "ADDRESS_TOO_LONG": HTTPStatus.REQUEST_URI_TOO_LONG,
    "TOO_SLOW": HTTPStatus.REQUEST_TIMEOUT,
    "DATASET_UNKNOWN": HTTPStatus.NOT_FOUND,
    "NO_SUCH_LOAD": HTTPStatus.NOT_FOUND,
}
"""By the code of an error that has one; any other is 422."""

_BY_KIND: Final[Mapping[Kind, HTTPStatus]] = {
    Kind.OUTAGE: HTTPStatus.SERVICE_UNAVAILABLE,
    Kind.REJECTED: HTTPStatus.UNPROCESSABLE_ENTITY,
    Kind.UNKNOWN: HTTPStatus.INTERNAL_SERVER_ERROR,
}
_NO_VALUE: Final = "a value cannot be stored, such as text with a NUL character: leave that out"


class HttpProblem(PenstockError):  # noqa: N818 - RFC 9457's own word
    """An error whose response needs headers or further members beside its code."""

    def __init__(
        self, code: str, detail: str, *, headers: Mapping[str, str] | None = None, more: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.headers = dict(headers or {})
        self.more = dict(more or {})


def status_of(error: BaseException) -> HTTPStatus:
    """Return the HTTP status for `error`."""
    if isinstance(error, PenstockError) and (code := getattr(error, "code", None)):
        return STATUS.get(code, HTTPStatus.UNPROCESSABLE_ENTITY)
    return _BY_KIND[kind_of(error)]


def body_of(error: BaseException) -> dict[str, Any]:
    """Return the problem document; an unexpected error reveals no details."""
    status = status_of(error)
    code = getattr(error, "code", None) or status.phrase.upper().replace(" ", "_")
    detail = one_line(error)
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        detail = "internal error: see the log of the ingress"
    elif not isinstance(error, PenstockError) and kind_of(error) is Kind.REJECTED:
        code, detail = "BAD_REQUEST", _NO_VALUE
    # the client's text may hold a lone surrogate, which UTF-8 cannot encode
    detail = detail.encode("utf-8", "backslashreplace").decode()
    more = error.more if isinstance(error, HttpProblem) else {}
    return {
        "type": "about:blank",
        "title": status.phrase,
        "status": int(status),
        "detail": detail,
        "code": code,
        **more,
    }


def headers_of(error: BaseException) -> dict[str, str]:
    """Return the headers that go with a problem."""
    own = error.headers if isinstance(error, HttpProblem) else {}
    status = status_of(error)
    waits = {"retry-after": str(RETRY_SECONDS)} if status is HTTPStatus.SERVICE_UNAVAILABLE else {}
    # the server does not wait for the rest of a late body
    ends = {"connection": "close"} if status is HTTPStatus.REQUEST_TIMEOUT else {}
    return {**waits, **ends, **own}

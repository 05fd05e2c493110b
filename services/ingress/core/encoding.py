"""Bytes of a request as text: UTF-8, or refused; bytes that were replaced would make one key of two."""

from urllib.parse import unquote_to_bytes

from shared.errors import Rejected


def decode_utf8(raw: bytes | bytearray, what: str) -> str:
    """Return `raw` as text.

    Raises Rejected: NO_UTF8.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        wrong = f"the byte 0x{raw[error.start]:02X}"
        raise Rejected("NO_UTF8", f"{what} holds {wrong}, which is not UTF-8 there: encode it as UTF-8") from None


def require_utf8(path: bytes, query: bytes) -> None:
    """Refuse a URL whose percent-encoded bytes are not UTF-8.

    Raises Rejected: NO_UTF8.
    """
    decode_utf8(unquote_to_bytes(path), "the path")
    decode_utf8(unquote_to_bytes(query), "the query")

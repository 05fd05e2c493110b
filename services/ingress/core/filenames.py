"""Parse the names in the parts of a form as clients send them; refuse what is ambiguous.

Browsers send UTF-8 in quotes, and `%22`, `%0D` and `%0A` for quotes and line breaks
(https://html.spec.whatwg.org/multipage/form-control-infrastructure.html#multipart-form-data). Others send `filename*`
(RFC 8187, in pieces RFC 2231), encoded words (RFC 2047), Latin-1, backslashes before quotes, local paths, or no quotes
at all.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from services.ingress.core.encoding import decode_utf8
from shared.errors import Rejected
from shared.text import quoted

CHARSETS: Final = re.compile(
    r"utf-?8|us-ascii|iso-8859-(?:[1-9]|1[0-6])|(?:windows-|cp)(?:125[0-8]|1361|874|932|936|949|950)|koi8-[ru]"
    r"|shift[_-]jis|euc-(?:jp|kr)|iso-2022-(?:jp|kr)|gb2312|gbk|gb18030|big5(?:-hkscs)?",
    re.ASCII | re.IGNORECASE,
)
"""Charsets that a name may declare; other codecs of Python are not for text or are unsafe to guess with."""

_TOKEN: Final = r"[^\s=;\"]+"  # noqa: S105 - of a header's grammar
_QUOTED: Final = r'"(?:[^"\\]|\\["\\]|\\)*+"'
_PARAMETER: Final = re.compile(rf';\s*({_TOKEN})\s*=\s*({_QUOTED}(?=\s*(?:;|$))|[^";][^;]*|)\s*(?=;|$)')
"""One parameter; an unquoted value extends to the next semicolon, blanks included."""
_EXTENDED: Final = re.compile(r"([^']*)'[^']*'(.*)", re.DOTALL)
_PIECE: Final = re.compile(r"filename(?:\*(\d{1,3}))?(\*)?")
_WORD: Final = re.compile(r"=\?([^?*\s]+)(?:\*[^?\s]*)?\?([bq])\?([^?]*)\?=", re.IGNORECASE)
_WORDS: Final = re.compile(rf"{_WORD.pattern}(?:\s*{_WORD.pattern})*", re.IGNORECASE)
_ESCAPED: Final = re.compile(r'\\(["\\])')
_BROWSERS: Final = (("%22", '"'), ("%0D", "\r"), ("%0A", "\n"))
_OWN_MACHINE: Final = re.compile(r"[A-Za-z]:[\\/]|\\")
"""How a full path of Windows begins: of it the last step counts, as old browsers meant it."""
_DOUBTFUL: Final = re.compile(r"^\xff|[^\x00-\x7f]{4}")
"""What words in a Western language do not have: such bytes are of another encoding, and any guess would be wrong."""


class Disposition(NamedTuple):
    """The field name of a part and its file name; None for a plain field."""

    field: str
    filename: str | None


def parse_disposition(header: str) -> Disposition:
    """Parse a part's Content-Disposition, whose bytes are decoded as Latin-1.

    Raises Rejected: BAD_FILENAME with what came, where it cannot be understood; NO_UTF8 for the name of a field.
    """
    field = ""
    plain: str | None = None
    extended: dict[int, tuple[str, bool]] = {}
    for name, value in _parameters(header):
        if name == "name":
            field = decode_utf8(_unquote(value).encode("latin-1"), "the name of a field")
        elif (piece := _PIECE.fullmatch(name)) is None:
            continue
        elif name == "filename":
            if plain not in {None, value}:
                raise _unreadable(header, "it has two names")
            plain = value
        elif extended.setdefault(int(piece[1] or 0), (value, bool(piece[2]))) != (value, bool(piece[2])):
            raise _unreadable(header, "it has two names")
    if extended:
        return Disposition(field, _drop_windows_path(_decode_extended(extended, header)))
    return Disposition(field, None if plain is None else _drop_windows_path(_plain(plain)))


def _parameters(header: str) -> Iterator[tuple[str, str]]:
    """Yield parameter names, in lower case, and raw values."""
    at = len(header.partition(";")[0])
    while at < len(header.rstrip(" \t;")):
        found = _PARAMETER.match(header, at)
        if found is None:
            raise _unreadable(header, "its quotes or semicolons are not those of a header")
        yield found[1].lower(), found[2].strip()
        at = found.end()


def _plain(value: str) -> str:
    """Read `filename`: its bytes are UTF-8 or Latin-1, and its characters may be encoded words."""
    raw = _unquote(value).encode("latin-1")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = _decode_latin1(raw)
    return _WORDS.sub(lambda found: _decoded_words(found[0]), text) if "=?" in text else text


def _decode_latin1(raw: bytes) -> str:
    """Decode bytes as browsers decode Latin-1: as Windows-1252 (https://encoding.spec.whatwg.org/)."""
    shown = raw.decode("latin-1")
    try:
        text = raw.decode("windows-1252")
    except UnicodeDecodeError:
        raise _unreadable(shown, "its bytes are neither UTF-8 nor Latin-1") from None
    if _DOUBTFUL.search(text):
        raise _unreadable(shown, "its bytes are not UTF-8, and do not look like Latin-1")
    return text


def _decode_extended(pieces: dict[int, tuple[str, bool]], header: str) -> str:
    """Read `filename*`, or the pieces `filename*0*`, `filename*1` ... of one."""
    if sorted(pieces) != list(range(len(pieces))):
        raise _unreadable(header, "a piece of its name is missing")
    first, is_encoded = pieces[0]
    if not is_encoded:
        return _plain("".join(_unquote(pieces[number][0]) for number in range(len(pieces))))
    found = _EXTENDED.fullmatch(_strip_quotes(first))
    if found is None:
        raise _unreadable(first, "filename* is written as UTF-8''name")
    rest = [(found[2], True), *(pieces[number] for number in range(1, len(pieces)))]
    raw = b"".join(
        unquote_to_bytes(_strip_quotes(text)) if encoded else _strip_quotes(text).encode("latin-1")
        for text, encoded in rest
    )
    return _decode_charset(raw, found[1], first)


def _decoded_words(text: str) -> str:
    """Read encoded words that follow each other; a character may begin in one and end in the next."""
    parts: list[tuple[str, bytes]] = []
    for charset, kind, encoded in _WORD.findall(text):
        raw = _word_bytes(kind, encoded, text)
        if parts and parts[-1][0] == charset.lower():
            parts[-1] = charset.lower(), parts[-1][1] + raw
        else:
            parts.append((charset.lower(), raw))
    return "".join(_decode_charset(raw, charset, text) for charset, raw in parts)


def _word_bytes(kind: str, encoded: str, shown: str) -> bytes:
    if kind in "qQ":
        return unquote_to_bytes(encoded.replace("%", "%25").replace("=", "%").replace("_", " "))
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise _unreadable(shown, "an encoded word holds no base64") from None


def _decode_charset(raw: bytes, charset: str, shown: str) -> str:
    if not CHARSETS.fullmatch(charset):
        raise _unreadable(shown, f"its encoding {quoted(charset)} is not known")
    try:
        return raw.decode(charset)
    except UnicodeDecodeError:
        raise _unreadable(shown, f"its bytes are not {charset}") from None


def _unquote(value: str) -> str:
    """Remove quotes and escapes."""
    has_escaped_quotes = '\\"' in value[1:-1]
    text = _ESCAPED.sub(r"\1", _strip_quotes(value)) if value.startswith('"') else value
    for sent, meant in () if has_escaped_quotes else _BROWSERS:
        text = text.replace(sent, meant)
    return text


def _strip_quotes(value: str) -> str:
    return value[1:-1] if value.startswith('"') else value


def _drop_windows_path(name: str) -> str:
    return re.split(r"[\\/]", name)[-1] if _OWN_MACHINE.match(name) else name


def _unreadable(came: str, why: str) -> Rejected:
    return Rejected("BAD_FILENAME", f"the file name {quoted(came)} cannot be read, for {why}: send it in UTF-8")

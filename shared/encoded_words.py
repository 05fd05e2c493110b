"""Encoded words (RFC 2047), in which MinIO, AWS and mail libraries write text that is not ASCII into headers."""

import base64
import quopri
import re
from typing import Final

_WORD: Final = r"=\?([A-Za-z0-9_-]{1,40})(?:\*[A-Za-z0-9-]{1,40})?\?([BbQq])\?([!->@-~]*)\?="
_ONE: Final = re.compile(_WORD)
_RUN: Final = re.compile(rf"{_WORD}(?:[ \t]+{_WORD})*")
"""Blanks between two words are not part of the text (RFC 2047, section 6.2)."""
_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_CHARSETS: Final = re.compile(
    r"utf-?8|us-ascii|iso-8859-\d{1,2}|windows-125\d|cp125\d|koi8-[ru]|gb2312|gbk|gb18030|big5|shift_jis|euc-(jp|kr)"
    r"|iso-2022-(jp|kr)",
    re.ASCII | re.IGNORECASE,
)


def decode_words(text: str) -> str:
    """Return `text` with its encoded words decoded; a word that cannot be, or that hides control characters, stays."""
    return _RUN.sub(_decoded, text) if "=?" in text else text


def _decoded(run: re.Match[str]) -> str:
    try:
        text = _joined(_ONE.findall(run[0]))
    except (LookupError, ValueError):
        return run[0]
    return run[0] if _CONTROLS.search(text) else text


def _joined(words: list[tuple[str, str, str]]) -> str:
    """Decode words one behind the other; those of one charset may share the bytes of a character."""
    pieces: list[tuple[str, bytes]] = []
    for charset, encoding, encoded in words:
        if not _CHARSETS.fullmatch(charset):
            raise LookupError(charset)
        raw = (
            base64.b64decode(encoded, validate=True) if encoding in "Bb" else quopri.decodestring(encoded, header=True)
        )
        if pieces and pieces[-1][0] == charset.lower():
            raw = pieces.pop()[1] + raw
        pieces.append((charset.lower(), raw))
    return "".join(raw.decode(charset) for charset, raw in pieces)

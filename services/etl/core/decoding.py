r"""Decode stored bytes to UTF-8 text with `\n` at the end of each line, in bounded memory.

A line may end in `\n`, `\r\n` or `\r`, and line ends within quotes must survive. So a lone `\r` becomes `\r\r\n`, which
`restore_line_ends` undoes.
"""

import codecs
import re
import zlib
from collections.abc import Iterator
from typing import Final

from services.etl.core.file_types import GZIP, HEAD_BYTES, detect_type, reject_other_formats
from services.etl.core.rejects import RejectedFile

_EXPAND_BYTES: Final = 1 << 20
"""Maximum bytes that one decompression step returns."""
_FREE_BYTES: Final = 64 << 20
_MAX_RATIO: Final = 250
"""Tables compress 3 to 50 times; deflate compresses only pure repetition more than 250 times."""
_FEED_BYTES: Final = 4 << 10
"""Bytes decompressed at a time; small, because each gzip member copies the input that follows it."""
_GZIP_WBITS: Final = 16 + zlib.MAX_WBITS
MAX_RETURNS: Final = 2
"""Maximum number of `\\r` before the end of a line."""
_LONE_RETURN: Final = re.compile(rb"\r(?!\n)")
_UTF16: Final = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_UTF32: Final = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


class Gunzip:
    """Incremental gunzip of all members; raises RejectedFile for damaged or truncated gzip, and for bombs."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP_WBITS)
        self._bytes_in = self._bytes_out = 0
        self._padded = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield the text that `piece` adds, at most 1 MiB at a time."""
        for at in range(0, len(piece), _FEED_BYTES):
            yield from self._feed(piece[at : at + _FEED_BYTES])

    def _feed(self, piece: bytes) -> Iterator[bytes]:
        self._bytes_in += len(piece)
        while piece:
            if self._member.eof and not self._next_member(piece):
                return
            text, piece = self._expand(piece)
            if text:
                yield text
        while not self._member.eof and (text := self._expand(b"")[0]):
            yield text

    def end(self) -> None:
        """Raise RejectedFile if the last member is truncated."""
        if not self._member.eof:
            raise RejectedFile("NOT_GZIP", "the gzip file ends too early; it was cut off on its way: store it again")

    def _expand(self, piece: bytes) -> tuple[bytes, bytes]:
        try:
            text = self._member.decompress(piece, _EXPAND_BYTES)
        except zlib.error:
            hint = "compress it again, or leave .gz out of its name"
            raise RejectedFile("NOT_GZIP", f"the file is not gzip, or is damaged; {hint}") from None
        self._bytes_out += len(text)
        if self._bytes_out > max(_FREE_BYTES, self._bytes_in * _MAX_RATIO):
            raise RejectedFile("GZIP_BOMB", f"the file expands more than {_MAX_RATIO} times; store it uncompressed")
        return text, self._member.unused_data if self._member.eof else self._member.unconsumed_tail

    def _next_member(self, piece: bytes) -> bool:
        # zero padding may follow the last member (gzip(1), tapes)
        self._padded = self._padded or piece[0] == 0
        if self._padded:
            if piece.strip(b"\0"):
                raise RejectedFile("NOT_GZIP", "data that is not gzip follows the gzip file; compress it again")
            return False
        self._member = zlib.decompressobj(_GZIP_WBITS)
        return True


class Decoder:
    r"""Incremental decoder to UTF-8 with lines that end in `\n`, `\r\n` or `\r\r\n`.

    Invalid UTF-8 and lone UTF-16 surrogates are passed through, so that only their rows are rejected. Gzip is expanded
    whatever the file name says. Raises RejectedFile for files that are not text, such as spreadsheets.
    """

    def __init__(self, *, compressed: bool) -> None:
        self._compressed = compressed
        self._gunzip: Gunzip | None = None
        self._undetected: bytes | None = b""
        self._head: bytes | None = b""
        self._utf16: codecs.IncrementalDecoder | None = None
        self._pending_return = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield the text that `piece` adds."""
        if self._undetected is not None:
            self._undetected += piece
            # a .gz file that is not gzip needs a longer head, to name its actual type
            needed = HEAD_BYTES if self._compressed and not is_gzip(self._undetected) else len(GZIP)
            if len(self._undetected) < needed:
                return
            piece = self._detect_gzip(self._undetected)
        if self._gunzip is None:
            yield self._decode(piece)
        else:
            yield from map(self._decode, self._gunzip.feed(piece))

    def end(self) -> bytes:
        """Return the buffered rest; raise RejectedFile for truncated gzip."""
        if self._undetected is not None:
            self._head = self._detect_gzip(self._undetected)
        if self._gunzip:
            self._gunzip.end()
        text = b"" if self._head is None else self._begin(self._head, last=True)
        broken = b"\xff" if self._utf16 and self._utf16.getstate()[0] else b""
        return text + (b"\r\r\n" if self._pending_return else b"") + broken

    def _detect_gzip(self, first: bytes) -> bytes:
        """Start gunzip if the file begins like gzip; raise RejectedFile if only its name ends in .gz."""
        self._undetected = None
        if is_gzip(first):
            self._gunzip = Gunzip()
        elif self._compressed:
            found = detect_type(first[:HEAD_BYTES])
            content = f"is {found.name}, not gzip" if found else "is not gzip"
            raise RejectedFile("NOT_GZIP", f"the file {content}; compress it, or leave .gz out of its name")
        return first

    def _decode(self, piece: bytes) -> bytes:
        if self._head is not None:
            return self._begin(self._head + piece, last=False)
        return self._normalize_ends(piece if self._utf16 is None else _utf16_to_utf8(self._utf16, piece))

    def _begin(self, head: bytes, *, last: bool) -> bytes:
        if len(head) < HEAD_BYTES and not last:
            self._head = head
            return b""
        self._head = None
        self._reject_other_formats(head)
        if encoding := _UTF16.get(head[:2]):
            self._utf16 = codecs.getincrementaldecoder(encoding)("surrogatepass")
            head = _utf16_to_utf8(self._utf16, head)
        # some programs add a byte order mark to text that already has one
        return self._normalize_ends(_strip_boms(head))

    def _reject_other_formats(self, head: bytes) -> None:
        if self._gunzip and is_gzip(head):
            raise RejectedFile("OTHER_FORMAT", "the file is compressed twice; compress it once")
        if head.startswith(_UTF32):
            raise RejectedFile("OTHER_FORMAT", "the file is UTF-32; save it as UTF-8")
        reject_other_formats(head[:HEAD_BYTES])

    def _normalize_ends(self, text: bytes) -> bytes:
        if self._pending_return:
            text = b"\r" + text
            self._pending_return = False
        if b"\r" not in text:
            return text
        if text.endswith(b"\r"):
            self._pending_return, text = True, text[:-1]
        if text.count(b"\r") == text.count(b"\r\n"):
            return text
        return _LONE_RETURN.sub(b"\r\r\n", text)


def strip_returns(line: str) -> str:
    r"""Strip `\r` from the end of a line."""
    return line.rstrip("\r") if line.endswith("\r") else line


def restore_line_ends(text: str) -> str:
    r"""Restore the original line ends within a quoted cell: `\n`, `\r\n` or `\r`."""
    return text.replace("\r\r\n", "\r") if "\r" in text else text


def is_gzip(body: bytes) -> bool:
    """Return whether bytes begin like gzip."""
    return body.startswith(GZIP)


def _strip_boms(text: bytes) -> bytes:
    while text.startswith(codecs.BOM_UTF8):
        text = text[len(codecs.BOM_UTF8) :]
    return text


def _utf16_to_utf8(decoder: codecs.IncrementalDecoder, piece: bytes) -> bytes:
    return decoder.decode(piece).encode("utf-8", "surrogatepass")


class LineBuffer:
    """Collects text into blocks of whole lines; truncates a line after one byte too many."""

    def __init__(self, line_bytes: int) -> None:
        self._max_bytes = line_bytes + 1 + MAX_RETURNS
        self._complete: list[bytes] = []
        self._partial = bytearray()
        self.size = 0

    def add(self, text: bytes) -> None:
        r"""Add text, split anywhere."""
        first = text.find(b"\n")
        if first < 0:
            self._partial += text[: self._max_bytes - len(self._partial)]
            return
        last = text.rindex(b"\n") + 1
        self._partial += text[: min(first, self._max_bytes - len(self._partial))]
        complete = bytes(self._partial) + text[first:last] if self._partial else text[:last]
        self._complete.append(complete)
        self.size += len(complete)
        self._partial = bytearray(text[last : last + self._max_bytes])

    def take(self) -> bytes:
        """Return and remove the complete lines."""
        block = b"".join(self._complete)
        self._complete, self.size = [], 0
        return block

    def end(self) -> bytes:
        """Return all lines; terminate the last one."""
        return self.take() + (bytes(self._partial) + b"\n" if self._partial else b"")

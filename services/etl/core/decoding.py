r"""Bytes as they are stored -> UTF-8 text with `\n` at the end of each line, in bounded memory.

A line may end in `\n`, `\r\n` or `\r`; within quotes each stays what it is. So a lone `\r` becomes `\r\r\n` here, which
`as_written` undoes.
"""

import codecs
import re
import zlib
from collections.abc import Iterator
from typing import Final

from services.etl.core.file_types import GZIP, HEAD_BYTES, detect_type, reject_other_formats
from services.etl.core.rejects import RejectedFile

_EXPAND_BYTES: Final = 1 << 20
"""How much of a compressed file is expanded at a time, in bytes."""
_FREE_BYTES: Final = 64 << 20
_MAX_RATIO: Final = 250
"""Text of rows shrinks 3 to 50 times; deflate can shrink nothing but repetition by 250 times and more."""
_FEED_BYTES: Final = 4 << 10
"""How much is looked at together: each of many tiny members copies what follows it there."""
_GZIP_WBITS: Final = 16 + zlib.MAX_WBITS
MAX_RETURNS: Final = 2
"""The most bytes of `\\r` that stand before the end of a line."""
_LONE_RETURN: Final = re.compile(rb"\r(?!\n)")
_UTF16: Final = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_UTF32: Final = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


class Gunzip:
    """Expands what is fed, member after member; raises Refused for what is no gzip, is cut off, or is a bomb."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP_WBITS)
        self._bytes_in = self._bytes_out = 0
        self._padded = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield what `piece` adds, at most 1 MiB at a time."""
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
        """Raise Refused when the last member is cut off."""
        if not self._member.eof:
            raise RejectedFile("NOT_GZIP", "the gzip file ends too early; it was cut off on its way: store it again")

    def _expand(self, piece: bytes) -> tuple[bytes, bytes]:
        try:
            text = self._member.decompress(piece, _EXPAND_BYTES)
        except zlib.error:
            hint = "compress it again, or leave .gz out of its name"
            raise RejectedFile("NOT_GZIP", f"the file is no gzip, or damaged; {hint}") from None
        self._bytes_out += len(text)
        if self._bytes_out > max(_FREE_BYTES, self._bytes_in * _MAX_RATIO):
            raise RejectedFile("GZIP_BOMB", f"the file expands more than {_MAX_RATIO} times; store it uncompressed")
        return text, self._member.unused_data if self._member.eof else self._member.unconsumed_tail

    def _next_member(self, piece: bytes) -> bool:
        # zeros may pad what follows the last member, as gzip(1) has it for tapes
        self._padded = self._padded or piece[0] == 0
        if self._padded:
            if piece.strip(b"\0"):
                raise RejectedFile("NOT_GZIP", "something that is no gzip follows the gzip file; compress it again")
            return False
        self._member = zlib.decompressobj(_GZIP_WBITS)
        return True


class Decoder:
    r"""Turns stored bytes into UTF-8 whose lines end in `\n`, `\r\n` or `\r\r\n`, however they were stored.

    Bytes that are not UTF-8 stay as they are, for the row's sake; a lone half of a UTF-16 pair becomes such bytes.
    What is gzip is expanded, whatever its name says. Raises Refused for what is no text, such as a spreadsheet.
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
            # what is called gzip and is none is told as what it is, however it comes
            needed = HEAD_BYTES if self._compressed and not is_gzip(self._undetected) else len(GZIP)
            if len(self._undetected) < needed:
                return
            piece = self._detect_gzip(self._undetected)
        if self._gunzip is None:
            yield self._decode(piece)
        else:
            yield from map(self._decode, self._gunzip.feed(piece))

    def end(self) -> bytes:
        """Return what was held back; raises Refused for a gzip file that is cut off."""
        if self._undetected is not None:
            self._head = self._detect_gzip(self._undetected)
        if self._gunzip:
            self._gunzip.end()
        text = b"" if self._head is None else self._begin(self._head, last=True)
        broken = b"\xff" if self._utf16 and self._utf16.getstate()[0] else b""
        return text + (b"\r\r\n" if self._pending_return else b"") + broken

    def _detect_gzip(self, first: bytes) -> bytes:
        """Expand what follows when it begins as gzip does; what is only called so is refused."""
        self._undetected = None
        if is_gzip(first):
            self._gunzip = Gunzip()
        elif self._compressed:
            found = detect_type(first[:HEAD_BYTES])
            content = f"is {found.name}, no gzip" if found else "is no gzip"
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
        self._refuse_other(head)
        if encoding := _UTF16.get(head[:2]):
            self._utf16 = codecs.getincrementaldecoder(encoding)("surrogatepass")
            head = _utf16_to_utf8(self._utf16, head)
        # a program that puts a byte order mark before text that has one already
        return self._normalize_ends(_strip_boms(head))

    def _refuse_other(self, head: bytes) -> None:
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
    r"""Take off what is left of a line's end besides `\n`."""
    return line.rstrip("\r") if line.endswith("\r") else line


def restore_line_ends(text: str) -> str:
    r"""Give the line ends within a quoted cell back as they were: `\n`, `\r\n` or `\r`."""
    return text.replace("\r\r\n", "\r") if "\r" in text else text


def is_gzip(body: bytes) -> bool:
    """Say whether bytes begin as gzip does, whatever they are called."""
    return body.startswith(GZIP)


def _strip_boms(text: bytes) -> bytes:
    while text.startswith(codecs.BOM_UTF8):
        text = text[len(codecs.BOM_UTF8) :]
    return text


def _utf16_to_utf8(decoder: codecs.IncrementalDecoder, piece: bytes) -> bytes:
    return decoder.decode(piece).encode("utf-8", "surrogatepass")


class LineBuffer:
    """Gathers text into blocks of whole lines; of a line that is too long no more is kept than shows that it is."""

    def __init__(self, line_bytes: int) -> None:
        self._max_bytes = line_bytes + 1 + MAX_RETURNS
        self._complete: list[bytes] = []
        self._partial = bytearray()
        self.size = 0

    def add(self, text: bytes) -> None:
        r"""Take more text, cut anywhere."""
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
        """Return all whole lines so far."""
        block = b"".join(self._complete)
        self._complete, self.size = [], 0
        return block

    def end(self) -> bytes:
        """Return all lines, the last one ended if it was not."""
        return self.take() + (bytes(self._partial) + b"\n" if self._partial else b"")

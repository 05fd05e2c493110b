r"""Bytes as they are stored -> UTF-8 text with `\n` at the end of each line, in bounded memory.

A line may end in `\n`, `\r\n` or `\r`; within quotes each stays what it is. So a lone `\r` becomes `\r\r\n` here, which
`as_written` undoes.
"""

import codecs
import re
import zlib
from collections.abc import Iterator
from typing import Final

from services.etl.core.recognizing import GZIP, HEAD_BYTES, recognized, refuse_other
from services.etl.core.refusing import Refused

_STEP: Final = 1 << 20
"""How much of a compressed file is expanded at a time, in bytes."""
_BOMB_BYTES: Final = 64 << 20
_BOMB_RATIO: Final = 250
"""Text of rows shrinks 3 to 50 times; deflate can shrink nothing but repetition by 250 times and more."""
_WINDOW: Final = 4 << 10
"""How much is looked at together: each of many tiny members copies what follows it there."""
_GZIP: Final = 16 + zlib.MAX_WBITS
MARKS: Final = 2
"""The most bytes of `\\r` that stand before the end of a line."""
_LONE_RETURN: Final = re.compile(rb"\r(?!\n)")
_UTF16: Final = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_UTF32: Final = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)


class Gunzip:
    """Expands what is fed, member after member; raises Refused for what is no gzip, is cut off, or is a bomb."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)
        self._taken = self._given = 0
        self._padded = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield what `piece` adds, at most 1 MiB at a time."""
        for at in range(0, len(piece), _WINDOW):
            yield from self._feed(piece[at : at + _WINDOW])

    def _feed(self, piece: bytes) -> Iterator[bytes]:
        self._taken += len(piece)
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
            raise Refused("NOT_GZIP", "the gzip file ends too early; it was cut off on its way: store it again")

    def _expand(self, piece: bytes) -> tuple[bytes, bytes]:
        try:
            text = self._member.decompress(piece, _STEP)
        except zlib.error:
            mend = "compress it again, or leave .gz out of its name"
            raise Refused("NOT_GZIP", f"the file is no gzip, or damaged; {mend}") from None
        self._given += len(text)
        if self._given > max(_BOMB_BYTES, self._taken * _BOMB_RATIO):
            raise Refused("GZIP_BOMB", f"the file expands more than {_BOMB_RATIO} times; store it uncompressed")
        return text, self._member.unused_data if self._member.eof else self._member.unconsumed_tail

    def _next_member(self, piece: bytes) -> bool:
        # zeros may pad what follows the last member, as gzip(1) has it for tapes
        self._padded = self._padded or piece[0] == 0
        if self._padded:
            if piece.strip(b"\0"):
                raise Refused("NOT_GZIP", "something that is no gzip follows the gzip file; compress it again")
            return False
        self._member = zlib.decompressobj(_GZIP)
        return True


class Decoder:
    r"""Turns stored bytes into UTF-8 whose lines end in `\n`, `\r\n` or `\r\r\n`, however they were stored.

    Bytes that are not UTF-8 stay as they are, for the row's sake; a lone half of a UTF-16 pair becomes such bytes.
    What is gzip is expanded, whatever its name says. Raises Refused for what is no text, such as a spreadsheet.
    """

    def __init__(self, *, compressed: bool) -> None:
        self._compressed = compressed
        self._gunzip: Gunzip | None = None
        self._first: bytes | None = b""
        self._head: bytes | None = b""
        self._wide: codecs.IncrementalDecoder | None = None
        self._return = False

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield the text that `piece` adds."""
        if self._first is not None:
            self._first += piece
            # what is called gzip and is none is told as what it is, however it comes
            enough = HEAD_BYTES if self._compressed and not is_gzip(self._first) else len(GZIP)
            if len(self._first) < enough:
                return
            piece = self._sniffed(self._first)
        if self._gunzip is None:
            yield self._decode(piece)
        else:
            yield from map(self._decode, self._gunzip.feed(piece))

    def end(self) -> bytes:
        """Return what was held back; raises Refused for a gzip file that is cut off."""
        if self._first is not None:
            self._head = self._sniffed(self._first)
        if self._gunzip:
            self._gunzip.end()
        text = b"" if self._head is None else self._begin(self._head, last=True)
        half = b"\xff" if self._wide and self._wide.getstate()[0] else b""
        return text + (b"\r\r\n" if self._return else b"") + half

    def _sniffed(self, first: bytes) -> bytes:
        """Expand what follows when it begins as gzip does; what is only called so is refused."""
        self._first = None
        if is_gzip(first):
            self._gunzip = Gunzip()
        elif self._compressed:
            found = recognized(first[:HEAD_BYTES])
            what = f"is {found.what}, no gzip" if found else "is no gzip"
            raise Refused("NOT_GZIP", f"the file {what}; compress it, or leave .gz out of its name")
        return first

    def _decode(self, piece: bytes) -> bytes:
        if self._head is not None:
            return self._begin(self._head + piece, last=False)
        return self._ended(piece if self._wide is None else _narrow(self._wide, piece))

    def _begin(self, head: bytes, *, last: bool) -> bytes:
        if len(head) < HEAD_BYTES and not last:
            self._head = head
            return b""
        self._head = None
        self._refuse_other(head)
        if encoding := _UTF16.get(head[:2]):
            self._wide = codecs.getincrementaldecoder(encoding)("surrogatepass")
            head = _narrow(self._wide, head)
        # a program that puts a byte order mark before text that has one already
        return self._ended(_without_marks(head))

    def _refuse_other(self, head: bytes) -> None:
        if self._gunzip and is_gzip(head):
            raise Refused("OTHER_FORMAT", "the file is compressed twice; compress it once")
        if head.startswith(_UTF32):
            raise Refused("OTHER_FORMAT", "the file is UTF-32; save it as UTF-8")
        refuse_other(head[:HEAD_BYTES])

    def _ended(self, text: bytes) -> bytes:
        if self._return:
            text = b"\r" + text
            self._return = False
        if b"\r" not in text:
            return text
        if text.endswith(b"\r"):
            self._return, text = True, text[:-1]
        if text.count(b"\r") == text.count(b"\r\n"):
            return text
        return _LONE_RETURN.sub(b"\r\r\n", text)


def without_returns(line: str) -> str:
    r"""Take off what is left of a line's end besides `\n`."""
    return line.rstrip("\r") if line.endswith("\r") else line


def as_written(text: str) -> str:
    r"""Give the line ends within a quoted cell back as they were: `\n`, `\r\n` or `\r`."""
    return text.replace("\r\r\n", "\r") if "\r" in text else text


def is_gzip(body: bytes) -> bool:
    """Say whether bytes begin as gzip does, whatever they are called."""
    return body.startswith(GZIP)


def _without_marks(text: bytes) -> bytes:
    while text.startswith(codecs.BOM_UTF8):
        text = text[len(codecs.BOM_UTF8) :]
    return text


def _narrow(wide: codecs.IncrementalDecoder, piece: bytes) -> bytes:
    return wide.decode(piece).encode("utf-8", "surrogatepass")


class Lines:
    """Gathers text into blocks of whole lines; of a line that is too long no more is kept than shows that it is."""

    def __init__(self, line_bytes: int) -> None:
        self._most = line_bytes + 1 + MARKS
        self._whole: list[bytes] = []
        self._part = bytearray()
        self.size = 0

    def add(self, text: bytes) -> None:
        r"""Take more text, cut anywhere."""
        first = text.find(b"\n")
        if first < 0:
            self._part += text[: self._most - len(self._part)]
            return
        last = text.rindex(b"\n") + 1
        self._part += text[: min(first, self._most - len(self._part))]
        whole = bytes(self._part) + text[first:last] if self._part else text[:last]
        self._whole.append(whole)
        self.size += len(whole)
        self._part = bytearray(text[last : last + self._most])

    def take(self) -> bytes:
        """Return all whole lines so far."""
        block = b"".join(self._whole)
        self._whole, self.size = [], 0
        return block

    def end(self) -> bytes:
        """Return all lines, the last one ended if it was not."""
        return self.take() + (bytes(self._part) + b"\n" if self._part else b"")

"""What bytes are, whatever their name says: the formats that people store under the name of another one."""

import re
from dataclasses import dataclass
from typing import Final

from services.etl.core.refusing import Refused

HEAD_BYTES: Final = 4096
"""Bytes from the beginning of a file that are enough to tell."""
GZIP: Final = b"\x1f\x8b\x08"


@dataclass(frozen=True, slots=True)
class Recognized:
    """A format: what the file is, and what to do to have its rows loaded."""

    what: str
    fix: str


_EXPAND: Final = "expand it, or compress it with gzip and end its name in .gz"
_CONVERT: Final = "export its rows as CSV, JSON lines or Parquet"
_PICTURE: Final = Recognized("a picture", "end its name as pictures do")
_BESIDE: Final = "remove it: it has no rows"
_SPREADSHEET: Final = "open it and save it as CSV UTF-8"

# https://en.wikipedia.org/wiki/List_of_file_signatures; the first that fits counts
_SIGNATURES: Final[tuple[tuple[bytes, Recognized], ...]] = (
    (b"Obj\x01", Recognized("an Avro file", "write it as Parquet")),
    (b"SQLite format 3\0", Recognized("an SQLite database", _CONVERT)),
    (b"\x89HDF\r\n\x1a\n", Recognized("an HDF5 file", "write it as Parquet")),
    (b"%PDF-", Recognized("a PDF document", _CONVERT)),
    (b"%!PS", Recognized("a PostScript document", _CONVERT)),
    (b"{\\rtf", Recognized("a rich text document (RTF)", _CONVERT)),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Recognized("an old or encrypted Office file, such as .xls", _SPREADSHEET)),
    (b"(\xb5/\xfd", Recognized("compressed with zstd", _EXPAND)),
    (b"\xfd7zXZ\0", Recognized("compressed with xz", _EXPAND)),
    (b"\x04\x22\x4d\x18", Recognized("compressed with lz4", _EXPAND)),
    (b"\xff\x06\0\0sNaPpY", Recognized("compressed with snappy", _EXPAND)),
    (b"\x1f\x9d", Recognized("compressed with compress (.Z)", _EXPAND)),
    (b"7z\xbc\xaf\x27\x1c", Recognized("a 7-Zip archive", "store the files that are in it")),
    (b"Rar!\x1a\x07", Recognized("a RAR archive", "store the files that are in it")),
    (
        b"\0\x05\x16\x07",
        Recognized("what macOS keeps beside a file (AppleDouble, ._name)", _BESIDE),
    ),
    (b"\0\x05\x16\0", Recognized("an AppleSingle file of macOS", "store the file without its resource fork")),
    (b"\0\0\0\x01Bud1", Recognized("a .DS_Store file of macOS", _BESIDE)),
    (b"bplist00", Recognized("a property list of macOS", _CONVERT)),
    (b"L\0\0\0\x01\x14\x02\0", Recognized("a shortcut of Windows (.lnk)", "store the file that it leads to")),
    (b"version https://git-lfs", Recognized("a pointer of Git LFS", "run git lfs pull and store the file itself")),
    (b"\x89PNG\r\n\x1a\n", _PICTURE),
    (b"\xff\xd8\xff", _PICTURE),
    (b"GIF87a", _PICTURE),
    (b"GIF89a", _PICTURE),
    (b"II*\0", _PICTURE),
    (b"MM\0*", _PICTURE),
)
_BINARY: Final = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
# the name of a column may begin as these do, so there has to be something that is no text as well
_LETTERS: Final[tuple[tuple[bytes, Recognized], ...]] = (
    (b"PAR1", Recognized("Parquet", "end its name in .parquet")),
    (b"PARE", Recognized("encrypted Parquet", "store it unencrypted")),
    (b"ARROW1", Recognized("an Arrow or Feather file", "write it as Parquet")),
    (b"FEA1", Recognized("a Feather file", "write it as Parquet")),
    (b"ORC", Recognized("an ORC file", "write it as Parquet")),
    (b"BZh", Recognized("compressed with bzip2", _EXPAND)),
)
_ZIPPED: Final = (
    (b"xl/", Recognized("an Excel workbook (.xlsx)", _SPREADSHEET)),
    (b"word/", Recognized("a Word document (.docx)", _CONVERT)),
    (b"ppt/", Recognized("a PowerPoint document (.pptx)", _CONVERT)),
    (b"opendocument.spreadsheet", Recognized("an OpenDocument spreadsheet (.ods)", _SPREADSHEET)),
    (b"Index/", Recognized("a Numbers spreadsheet", _SPREADSHEET)),
    (b"[Content_Types].xml", Recognized("an Office document, such as .xlsx", _SPREADSHEET)),
)
_ZIP: Final = Recognized("a zip archive", "store the files that are in it")
_TAR: Final = Recognized("a tar archive", "store the files that are in it")
_ZEROS: Final = Recognized("nothing but NUL bytes", "store it again: what copied or downloaded it did not finish")
_GZIPPED: Final = Recognized("compressed with gzip", "end its name in .gz")

_HTML: Final = Recognized("an HTML page, perhaps of a login or an error", "store the file itself, or export as CSV")
_MARKUP: Final = (
    (re.compile(r"<(?:!doctype html|html|head|body|table|script|meta|div|title)\b|<!--", re.IGNORECASE), _HTML),
    # not the header `<DATE>,<TIME>` of some exports
    (re.compile(r"<\?xml|<[A-Za-z][\w:.-]*(?:\s+[\w:.-]+=|/>|>\s*(?:<|$))"), Recognized("an XML document", _CONVERT)),
)
_JSON: Final = re.compile(r'\{\s*(?:["}]|$)|\[\s*(?:[\[{"\]]|-?[0-9]|true|false|null|$)')


def recognized(head: bytes) -> Recognized | None:
    """Tell what a file is that begins with `head`, up to HEAD_BYTES of it; None: text, or nothing that is known."""
    if head and not head.strip(b"\0"):
        return _ZEROS
    if head.startswith(GZIP):
        return _GZIPPED
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        return next((found for mark, found in _ZIPPED if mark in head), _ZIP)
    if _BINARY.search(head) and (found := _recognized_binary(head)):
        return found
    return next((found for sign, found in _SIGNATURES if head.startswith(sign)), None)


def _recognized_binary(head: bytes) -> Recognized | None:
    if head[257:262] == b"ustar":
        return _TAR
    if (head[:4] == b"RIFF" and head[8:12] == b"WEBP") or head[4:8] == b"ftyp":
        return _PICTURE
    return next((found for sign, found in _LETTERS if head.startswith(sign)), None)


def recognized_text(line: str) -> Recognized | None:
    """Tell what a text is whose first line that is not blank is `line`; None: it may be rows."""
    text = line.lstrip()[:200]
    return next((found for pattern, found in _MARKUP if pattern.match(text)), None)


def recognized_image(head: bytes) -> Recognized | None:
    """Tell what is stored as an image and is none; None: nothing that is known."""
    if not head:
        return Recognized("empty", "")
    if found := recognized(head[:HEAD_BYTES]):
        return None if found is _PICTURE else found
    return None if _BINARY.search(head[:HEAD_BYTES]) else _text(head[:HEAD_BYTES])


def refuse_other(head: bytes, *, code: str = "OTHER_FORMAT") -> None:
    """Raise Refused for bytes that are no text, saying what they are."""
    if found := recognized(head):
        raise refusal_of(found, code)


def refuse_no_parquet(head: bytes) -> None:
    """Raise Refused for bytes that no Parquet file begins with, saying what they are as far as it is known."""
    if not head.startswith(b"PAR1"):
        found = recognized(head) or _text(head)
        what = f"is {found.what}, no Parquet; {found.fix}" if found else "is no Parquet, or damaged; write it again"
        raise Refused("NOT_PARQUET", f"the file {what}")


def _text(head: bytes) -> Recognized | None:
    if not head or _BINARY.search(head):
        return None
    if found := recognized_text(head.decode("utf-8", "replace").lstrip().partition("\n")[0]):
        return found
    return Recognized("text", "end its name as what it is, such as .csv or .jsonl")


def refuse_markup(line: str, *, is_json: bool) -> None:
    """Raise Refused for text that is no rows, by its first line; `is_json`: it should be JSON lines."""
    if found := recognized_text(line):
        raise refusal_of(found)
    text = line.strip()
    if is_json and text.startswith("[") and _JSON.match(text):
        raise refusal_of(Recognized("one JSON array", "write one object a line, without brackets and commas around"))
    if is_json and text == "{":
        raise refusal_of(Recognized("JSON that is indented", "write each object on one line"))
    if not is_json and _JSON.match(text):
        raise refusal_of(Recognized("JSON", "write one object a line and end its name in .jsonl"))


def refusal_of(found: Recognized, code: str = "OTHER_FORMAT") -> Refused:
    """Refuse a file as what it is."""
    return Refused(code, f"the file is {found.what}; {found.fix}")


_SEPARATOR: Final = re.compile(r'"?sep=([^\w\s"]|\t)\1*"?', re.IGNORECASE)


def named_delimiter(line: str) -> str:
    """Return the delimiter that a first line `sep=;` names, as Excel writes and reads it; empty: it names none."""
    found = _SEPARATOR.fullmatch(line.strip(" \r\n\ufeff"))
    return found[1] if found else ""

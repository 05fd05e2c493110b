"""Detect the actual type of a file that was stored under the extension of another one."""

import re
from dataclasses import dataclass
from typing import Final

from services.etl.core.rejects import RejectedFile

HEAD_BYTES: Final = 4096
"""Bytes from the start of a file that suffice for detection."""
GZIP: Final = b"\x1f\x8b\x08"


@dataclass(frozen=True, slots=True)
class FileType:
    """A file type: its name, and how to get its rows loaded."""

    name: str
    fix: str


_DECOMPRESS: Final = "expand it, or compress it with gzip and end its name in .gz"
_EXPORT: Final = "export its rows as CSV, JSON lines or Parquet"
_IMAGE: Final = FileType("an image", "give it the extension of an image, such as .png")
_REMOVE: Final = "remove it: it has no rows"
_SPREADSHEET: Final = "open it and save it as CSV UTF-8"

# https://en.wikipedia.org/wiki/List_of_file_signatures; the first match wins
_SIGNATURES: Final[tuple[tuple[bytes, FileType], ...]] = (
    (b"Obj\x01", FileType("an Avro file", "write it as Parquet")),
    (b"SQLite format 3\0", FileType("an SQLite database", _EXPORT)),
    (b"\x89HDF\r\n\x1a\n", FileType("an HDF5 file", "write it as Parquet")),
    (b"%PDF-", FileType("a PDF document", _EXPORT)),
    (b"%!PS", FileType("a PostScript document", _EXPORT)),
    (b"{\\rtf", FileType("a rich text document (RTF)", _EXPORT)),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", FileType("an old or encrypted Office file, such as .xls", _SPREADSHEET)),
    (b"(\xb5/\xfd", FileType("compressed with zstd", _DECOMPRESS)),
    (b"\xfd7zXZ\0", FileType("compressed with xz", _DECOMPRESS)),
    (b"\x04\x22\x4d\x18", FileType("compressed with lz4", _DECOMPRESS)),
    (b"\xff\x06\0\0sNaPpY", FileType("compressed with snappy", _DECOMPRESS)),
    (b"\x1f\x9d", FileType("compressed with compress (.Z)", _DECOMPRESS)),
    (b"7z\xbc\xaf\x27\x1c", FileType("a 7-Zip archive", "store the files that are in it")),
    (b"Rar!\x1a\x07", FileType("a RAR archive", "store the files that are in it")),
    (
        b"\0\x05\x16\x07",
        FileType("what macOS keeps beside a file (AppleDouble, ._name)", _REMOVE),
    ),
    (b"\0\x05\x16\0", FileType("an AppleSingle file of macOS", "store the file without its resource fork")),
    (b"\0\0\0\x01Bud1", FileType("a .DS_Store file of macOS", _REMOVE)),
    (b"bplist00", FileType("a property list of macOS", _EXPORT)),
    (b"L\0\0\0\x01\x14\x02\0", FileType("a shortcut of Windows (.lnk)", "store the file that it leads to")),
    (b"version https://git-lfs", FileType("a pointer of Git LFS", "run git lfs pull and store the file itself")),
    (b"\x89PNG\r\n\x1a\n", _IMAGE),
    (b"\xff\xd8\xff", _IMAGE),
    (b"GIF87a", _IMAGE),
    (b"GIF89a", _IMAGE),
    (b"II*\0", _IMAGE),
    (b"MM\0*", _IMAGE),
)
_SIGNS: Final = tuple(sign for sign, _ in _SIGNATURES)
_BINARY: Final = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
# a column name may start like these, so they count only if the head has binary bytes
_TEXT_SIGNATURES: Final[tuple[tuple[bytes, FileType], ...]] = (
    (b"PAR1", FileType("Parquet", "end its name in .parquet")),
    (b"PARE", FileType("encrypted Parquet", "store it unencrypted")),
    (b"ARROW1", FileType("an Arrow or Feather file", "write it as Parquet")),
    (b"FEA1", FileType("a Feather file", "write it as Parquet")),
    (b"ORC", FileType("an ORC file", "write it as Parquet")),
    (b"BZh", FileType("compressed with bzip2", _DECOMPRESS)),
)
_ZIPPED: Final = (
    (b"xl/", FileType("an Excel workbook (.xlsx)", _SPREADSHEET)),
    (b"word/", FileType("a Word document (.docx)", _EXPORT)),
    (b"ppt/", FileType("a PowerPoint document (.pptx)", _EXPORT)),
    (b"opendocument.spreadsheet", FileType("an OpenDocument spreadsheet (.ods)", _SPREADSHEET)),
    (b"Index/", FileType("a Numbers spreadsheet", _SPREADSHEET)),
    (b"[Content_Types].xml", FileType("an Office document, such as .xlsx", _SPREADSHEET)),
)
_ZIP: Final = FileType("a zip archive", "store the files that are in it")
_TAR: Final = FileType("a tar archive", "store the files that are in it")
_ZEROS: Final = FileType("nothing but NUL bytes", "store it again: what copied or downloaded it did not finish")
_GZIPPED: Final = FileType("compressed with gzip", "end its name in .gz")

_HTML: Final = FileType("an HTML page, perhaps of a login or an error", "store the file itself, or export as CSV")
_MARKUP: Final = (
    (re.compile(r"<(?:!doctype html|html|head|body|table|script|meta|div|title)\b|<!--", re.IGNORECASE), _HTML),
    # must not match the header `<DATE>,<TIME>` of some exports
    (re.compile(r"<\?xml|<[A-Za-z][\w:.-]*(?:\s+[\w:.-]+=|/>|>\s*(?:<|$))"), FileType("an XML document", _EXPORT)),
)
_JSON: Final = re.compile(r'\{\s*(?:["}]|$)|\[\s*(?:[\[{"\]]|-?[0-9]|true|false|null|$)')


def detect_type(head: bytes) -> FileType | None:
    """Return the type of a file by its first HEAD_BYTES; None for text and unknown types."""
    if head and not head.strip(b"\0"):
        return _ZEROS
    if head.startswith(GZIP):
        return _GZIPPED
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        return next((found for mark, found in _ZIPPED if mark in head), _ZIP)
    if _BINARY.search(head) and (found := _detect_binary(head)):
        return found
    # one call for the usual case: no signature
    if not head.startswith(_SIGNS):
        return None
    return next(found for sign, found in _SIGNATURES if head.startswith(sign))


def _detect_binary(head: bytes) -> FileType | None:
    if head[257:262] == b"ustar":
        return _TAR
    if (head[:4] == b"RIFF" and head[8:12] == b"WEBP") or head[4:8] == b"ftyp":
        return _IMAGE
    return next((found for sign, found in _TEXT_SIGNATURES if head.startswith(sign)), None)


def detect_markup(line: str) -> FileType | None:
    """Return the markup type of a text by its first nonblank line; None if it may be rows."""
    text = line.lstrip()[:200]
    return next((found for pattern, found in _MARKUP if pattern.match(text)), None)


def detect_non_image(head: bytes) -> FileType | None:
    """Return the type of a file that is not an image; None if unknown."""
    if not head:
        return FileType("empty", "")
    if found := detect_type(head[:HEAD_BYTES]):
        return None if found is _IMAGE else found
    return None if _BINARY.search(head[:HEAD_BYTES]) else _detect_text(head[:HEAD_BYTES])


def reject_other_formats(head: bytes, *, code: str = "OTHER_FORMAT") -> None:
    """Raise RejectedFile with the type of a file that is not text."""
    if found := detect_type(head):
        raise wrong_format(found, code)


def require_parquet(head: bytes) -> None:
    """Raise RejectedFile if a file does not start like Parquet; name its type if it is known."""
    if not head.startswith(b"PAR1"):
        found = detect_type(head) or _detect_text(head)
        name = (
            f"is {found.name}, not Parquet; {found.fix}" if found else "is not Parquet, or is damaged; write it again"
        )
        raise RejectedFile("NOT_PARQUET", f"the file {name}")


def _detect_text(head: bytes) -> FileType | None:
    if not head or _BINARY.search(head):
        return None
    if found := detect_markup(head.decode("utf-8", "replace").lstrip().partition("\n")[0]):
        return found
    return FileType("text", "end its name as what it is, such as .csv or .jsonl")


def reject_markup(line: str, *, is_json: bool) -> None:
    """Raise RejectedFile if the first line is markup or JSON of another kind; `is_json`: JSON Lines are expected."""
    if found := detect_markup(line):
        raise wrong_format(found)
    text = line.strip()
    if is_json and text.startswith("[") and _JSON.match(text):
        raise wrong_format(FileType("one JSON array", "write one object a line, without brackets and commas around"))
    if is_json and text == "{":
        raise wrong_format(FileType("JSON that is indented", "write each object on one line"))
    if not is_json and _JSON.match(text):
        raise wrong_format(FileType("JSON", "write one object a line and end its name in .jsonl"))


def wrong_format(found: FileType, code: str = "OTHER_FORMAT") -> RejectedFile:
    """Return the error for a file of another type."""
    return RejectedFile(code, f"the file is {found.name}; {found.fix}")


_SEPARATOR: Final = re.compile(r'"?sep=([^\w\s"]|\t)\1*"?', re.IGNORECASE)


def excel_delimiter(line: str) -> str:
    """Return the delimiter of a line `sep=;`, as Excel writes it; empty for other lines."""
    found = _SEPARATOR.fullmatch(line.strip(" \r\n\ufeff"))
    return found[1] if found else ""

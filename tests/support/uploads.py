"""Files and images of users, and what each of them means: a model that shares no line with etl."""

import random
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

HEAD: Final = "first_name, last_name, birthts\n"
COLUMNS: Final = ("user_id", "first_name", "last_name", "birthts", "img_path")
"""Of the whole table as a file, in order."""

DAY_MS: Final = 86_400_000

Row = tuple[str, str, int]
Image = tuple[str, int, int]
Expected = dict[str, tuple[str, str, int, str]]
"""By user: the names, the moment of birth, and where the image is."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An object to store: its bytes, the rows they hold, the lines that are rejected (0: all of it), or the picture."""

    name: str
    body: bytes
    rows: Mapping[str, Row] = field(default_factory=dict)
    rejected: frozenset[int] = frozenset()
    image: Image | None = None

    @property
    def item(self) -> str:
        """The user by its name: all before the last dot."""
        return self.name.rpartition("/")[2].rpartition(".")[0]

    def named(self, name: str) -> "Upload":
        """Return the same bytes under another name."""
        return replace(self, name=name)


def person(user: str, chance: random.Random | None = None) -> Row:
    """Return a made-up person: the same at every call, unless `chance` says otherwise."""
    chance = chance or random.Random(user)
    first = chance.choice(("Ada", "Zoë", "Jürgen", "Anne-Marie", "李", "María José"))
    last = chance.choice(("O'Brien", "Lovelace", "von Neumann", "Ångström", "Ng", "Søndergård"))
    return f"{first}{chance.randrange(1000)}", last, chance.randrange(-23_000, 12_000) * DAY_MS


def one_row(user: str, row: Row | None = None, *, ending: str = "csv") -> Upload:
    """Return the contract's file of one user."""
    row = row or person(user)
    return Upload(f"{user}.{ending}", f"{HEAD}{row[0]}, {row[1]}, {row[2]}\n".encode(), {user: row})


def many_rows(name: str, rows: Mapping[str, Row], bad: Iterable[str] = ()) -> Upload:
    """Return a file of many users, after whose rows `bad` lines follow."""
    good = [f"{user},{first},{last},{birthts}" for user, (first, last, birthts) in rows.items()]
    lines = ["user_id,first_name,last_name,birthts", *good, *bad]
    rejected = frozenset(range(len(good) + 2, len(lines) + 1))
    return Upload(f"{name}.csv", ("\n".join(lines) + "\n").encode(), dict(rows), rejected)


def bad_row(user: str, cells: str = "Ada, Lovelace, yesterday") -> Upload:
    """Return the contract's file with a row that is none."""
    return Upload(f"{user}.csv", f"{HEAD}{cells}\n".encode(), rejected=frozenset({2}))


def no_rows(name: str, body: bytes) -> Upload:
    """Return a file that is rejected as a whole."""
    return Upload(name, body, rejected=frozenset({0}))


def image(user: str, *, ending: str = "png", kind: str = "png", seed: int = 0) -> Upload:
    """Return an image whose size tells it from others; its content is of `kind`, whatever the `ending`."""
    chance = random.Random(f"{user}{seed}")
    width, height = chance.randrange(1, 64), chance.randrange(1, 64)
    return Upload(f"{user}.{ending}", _HEADS[kind](width, height), image=(f"image/{kind}", width, height))


def no_image(user: str, *, ending: str = "png") -> Upload:
    """Return text that is called an image."""
    return Upload(f"{user}.{ending}", b"this is no image\n", rejected=frozenset({0}))


def pair(user: str) -> tuple[Upload, Upload]:
    """Return a user as the contract drops them: a file and an image."""
    return one_row(user), image(user)


def png(width: int, height: int) -> bytes:
    """Return a whole picture, all black."""
    rows = zlib.compress(b"".join(b"\0" + bytes(width) for _ in range(height)))
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0" + bytes(6) + b";"


def _jpeg(width: int, height: int) -> bytes:
    jfif = b"\xff\xe0" + struct.pack(">H", 16) + b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\x01\x11\0"
    return b"\xff\xd8" + jfif + frame + b"\xff\xd9"


def _webp(width: int, height: int) -> bytes:
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + (width - 1).to_bytes(3, "little")
    body += (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", len(body)) + body


_HEADS: Final[Mapping[str, Any]] = {"png": png, "gif": _gif, "jpeg": _jpeg, "webp": _webp}

Stored = tuple[str, float, Upload]
"""A key, when it was stored, in whole seconds, and what."""


def expected(bucket: str, stored: Sequence[Stored]) -> Expected:
    """Return the table that a bucket implies: of several files or images of a user the one stored last counts.

    Among those of one second, which is as exact as a read object tells, the first by key does.
    """
    in_order = sorted(stored, key=lambda one: (-one[1], one[0].encode()))
    rows: dict[str, Row] = {}
    images: dict[str, str] = {}
    for key, _, upload in in_order:
        for user, row in upload.rows.items():
            rows.setdefault(user, row)
        if upload.image:
            images.setdefault(upload.item, f"{bucket}/{key}")
    return {user: (*row, images.get(user, "")) for user, row in rows.items()}


def images(stored: Iterable[Stored]) -> dict[str, Image]:
    """Return what is to be said of each image, by key."""
    return {key: upload.image for key, _, upload in stored if upload.image}


def rejected(stored: Iterable[Stored]) -> dict[str, list[int]]:
    """Return the lines that are to be rejected, by key."""
    return {key: sorted(upload.rejected) for key, _, upload in stored if upload.rejected}


def guarded(cell: str) -> str:
    """Return a cell as a file shows it: what a spreadsheet would run as a formula, as text."""
    return f"'{cell}" if cell.lstrip("'").startswith(("=", "+", "-", "@", "\t", "\r")) else cell

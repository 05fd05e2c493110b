"""Generate made-up users, each a file and an image; deterministic."""

import random
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

COLUMNS: Final = ("first_name", "last_name", "birthts")
FIRST_ID: Final = 1000


def _names(text: str) -> list[str]:
    return text.split(", ")


FIRST_NAMES: Final = _names(
    "Ada, Aoife, Björn, Çelik, Chidi, Dagný, Ebony, Elif, Émile, Fatima, Fiadh, Gülsen, Hana, Håkon, Ines, Ingrid, "
    "Jaromír, Jean-Luc, José, Kaito, Kwame, Lê, Leila, Lucía, Łukasz, Mai, Maël, Marie-Claire, Mateus, Mbali, Miloš, "
    "Nadia, Naomi, Niamh, Noor, Ólafur, Oisín, Olga, Paulo, Petra, Quinn, Rania, René, Rosalind, Şirin, Siobhán, "
    "Søren, Tariq, Thandiwe, Tomás, Uma, Ulrike, Viktor, Wanjiru, Xiu, Yara, Yuki, Zeynep, Zoë, Žofie"
)
LAST_NAMES: Final = _names(
    "Abara, Achterberg, Adeyemi, Agnarsdóttir, Álvarez, Ashworth-Lane, Bäcker, Błaszczyk, Brûlé, Castellanos, "
    "Chaudhary, D'Amico, D'Souza, Dąbrowski, Dvořák, Eklund, Erdoğan, Fairweather, Fernández-Ruiz, Fitzgerald, "
    "Gärtner, Ghosh, Grünwald, Halloran, Haraldsson, Ishikawa, Jørgensen, Kaplan, Keïta, Kowalczyk, Lindqvist, "
    "M'Baye, MacMahon, Mbeki, Müller-Lüdenscheidt, Nakamura, Ní Bhriain, Novák, O'Brien, O'Connor, O'Malley, Okonkwo, "
    "Öztürk, Pérez, Petrović, Quintero, Rasmussen, Saint-Germain, Schäfer, Sjöberg, Strauß, Tanaka, Tremblay, Ueda, "
    "Valdés, van der Berg, Voß, Whitcombe, Yüksel, Zúñiga"
)
_OLDEST: Final = date(1935, 1, 1).toordinal()
_YOUNGEST: Final = date(2007, 12, 31).toordinal()
_LEAP_DAY: Final = date(1996, 2, 29)
_DAY_MS: Final = 86_400_000
_CELLS: Final = 7
_CELL_PIXELS: Final = 8
_MARGIN_PIXELS: Final = 4
"""Seven cells of eight pixels and a margin make images of 64 by 64."""
_BACKGROUND: Final = (244, 244, 240)
Color = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class SeedUser:
    """One user: id, CSV file and PNG image."""

    user_id: str
    row: bytes
    image: bytes


def generate_users(count: int = 100) -> Iterator[SeedUser]:
    """Yield users 1000, 1001, ...; they are 18 to 90 years old in 2026, and one is born on a leap day."""
    rng = random.Random(FIRST_ID)
    first_names, last_names = _shuffle(FIRST_NAMES, rng), _shuffle(LAST_NAMES, rng)
    for number in range(count):
        first = first_names[number % len(first_names)]
        # shift each round, so that full names are unique
        last = last_names[(number + number // len(last_names)) % len(last_names)]
        born = date.fromordinal(rng.randint(_OLDEST, _YOUNGEST)) if number else _LEAP_DAY
        birthts = int(datetime(born.year, born.month, born.day, tzinfo=UTC).timestamp()) * 1000
        birthts += rng.randrange(_DAY_MS // 1000) * 1000
        row = f"{', '.join(COLUMNS)}\n{first}, {last}, {birthts}\n"
        yield SeedUser(str(FIRST_ID + number), row.encode(), draw_avatar(number))


def draw_avatar(number: int) -> bytes:
    """Draw a symmetric pattern in a color of its own, as PNG."""
    rng = random.Random(number)
    color = _color(number * 0.618033988749895 % 1.0)  # golden ratio, so that neighbors differ
    half = [[rng.choice((True, False)) for _ in range(_CELLS // 2 + 1)] for _ in range(_CELLS)]
    cells = [[*row, *row[-2::-1]] for row in half]
    size = _CELLS * _CELL_PIXELS + 2 * _MARGIN_PIXELS
    margin = bytes(_BACKGROUND) * _MARGIN_PIXELS
    blank = b"\0" + bytes(_BACKGROUND) * size
    lines = [
        b"\0" + margin + b"".join(bytes(color if cell else _BACKGROUND) * _CELL_PIXELS for cell in row) + margin
        for row in cells
    ]
    pixels = blank * _MARGIN_PIXELS + b"".join(line * _CELL_PIXELS for line in lines) + blank * _MARGIN_PIXELS
    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(pixels, 9)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _color(hue: float) -> Color:
    """Convert a hue to a color of medium lightness that contrasts with the background."""
    channels = (max(0.0, min(1.0, abs((hue * 6 + shift) % 6 - 3) - 1)) for shift in (0, 4, 2))
    red, green, blue = (round(40 + 150 * channel) for channel in channels)
    return red, green, blue


def _shuffle(names: Sequence[str], rng: random.Random) -> list[str]:
    return rng.sample(names, len(names))

"""Seed users: valid, unique and deterministic files and images."""

import csv
import struct
import zlib
from datetime import UTC, date, datetime

from services.etl.adapters.seeds import draw_avatar, generate_users
from services.etl.core.images import probe_image

SEEDS = list(generate_users())


def rows():
    return [next(csv.DictReader(seed.row.decode().splitlines(), skipinitialspace=True)) for seed in SEEDS]


def test_users_are_deterministic():
    assert list(generate_users()) == SEEDS


def test_users_have_ids_1000_to_1099():
    assert [seed.user_id for seed in SEEDS] == [str(number) for number in range(1000, 1100)]


def test_file_has_contract_header_and_one_row():
    for seed in SEEDS:
        head, row, end = seed.row.decode().split("\n")
        assert head == "first_name, last_name, birthts"
        assert row.count(", ") == 2
        assert end == ""


def test_names_are_unique_and_varied():
    names = {f"{row['first_name']} {row['last_name']}" for row in rows()}
    assert len(names) == len(SEEDS)
    assert all(name == name.strip() and "," not in name for name in names)
    for sort in ("'", "-", "ü", "van der Berg"):
        assert any(sort in name for name in names), sort


def test_users_are_18_to_90_years_old_in_2026():
    born = [datetime.fromtimestamp(int(row["birthts"]) / 1000, UTC).date() for row in rows()]
    assert all(date(1935, 1, 1) <= day <= date(2007, 12, 31) for day in born)
    assert date(1996, 2, 29) in born


def test_images_are_unique_small_and_valid():
    assert len({seed.image for seed in SEEDS}) == len(SEEDS)
    for seed in SEEDS:
        assert len(seed.image) < 400
        pixels = decoded(seed.image)
        assert len(pixels) == 64 * (1 + 64 * 3)
        lines = [pixels[at + 1 : at + 1 + 64 * 3] for at in range(0, len(pixels), 1 + 64 * 3)]
        assert all(mirrored(line) == line for line in lines)
        assert len({line[at : at + 3] for line in lines for at in range(0, len(line), 3)}) == 2


def test_image_is_detected_as_png():
    seen = probe_image(draw_avatar(7))
    assert seen is not None
    assert (seen.content_type, seen.width, seen.height) == ("image/png", 64, 64)


def mirrored(line):
    return b"".join(line[at : at + 3] for at in range(len(line) - 3, -1, -3))


def decoded(body):
    """Read a PNG as its specification says: a signature, then chunks with lengths and checksums."""
    assert body.startswith(b"\x89PNG\r\n\x1a\n")
    at, chunks = 8, {}
    while at < len(body):
        (size,) = struct.unpack(">I", body[at : at + 4])
        kind, data = body[at + 4 : at + 8], body[at + 8 : at + 8 + size]
        assert struct.unpack(">I", body[at + 8 + size : at + 12 + size]) == (zlib.crc32(kind + data),)
        chunks[kind] = data
        at += 12 + size
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    assert struct.unpack(">IIBBBBB", chunks[b"IHDR"]) == (64, 64, 8, 2, 0, 0, 0)
    return zlib.decompress(chunks[b"IDAT"])

"""Digests by name, each equal to its reference."""

import hashlib
import zlib

import blake3
import pytest
import xxhash

from services.hasher.core.algorithms import ALGORITHMS
from shared.digests import DIGEST_NAMES

CHECK = b"123456789"
VECTORS = {  # https://reveng.sourceforge.io/crc-catalogue/all.htm
    "crc32": "cbf43926",
    "crc32c": "e3069283",
    "crc64nvme": "ae8b14860a799888",
}


def digest(name, *chunks):
    made = ALGORITHMS[name]()
    for chunk in chunks:
        made.update(chunk)
    return made.hexdigest()


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_pieces_give_the_digest_of_the_whole_from_any_buffer(name):
    data = bytes(range(256)) * 5
    whole = digest(name, data)
    assert digest(name, data[:1], data[1:700], b"", memoryview(data)[700:]) == whole
    assert digest(name, bytearray(data)) == whole
    assert len(digest(name)) == len(whole)
    assert whole == whole.lower()


@pytest.mark.parametrize("name", sorted(set(ALGORITHMS) & set(hashlib.algorithms_guaranteed)))
def test_hashlibs_digests_are_hashlibs(name):
    assert digest(name, CHECK) == hashlib.new(name, CHECK).hexdigest()


@pytest.mark.parametrize("name", VECTORS)
def test_checksums_match_the_catalogue(name):
    assert digest(name, CHECK) == VECTORS[name]


def test_a_checksum_keeps_its_leading_zeros():
    short = next(bytes([a, b]) for a in range(256) for b in range(256) if zlib.crc32(bytes([a, b])) < 1 << 28)
    assert digest("crc32", short) == f"{zlib.crc32(short):08x}"


def test_the_others_match_their_libraries():
    assert digest("blake3", CHECK) == blake3.blake3(CHECK).hexdigest()
    assert digest("xxh3", CHECK) == xxhash.xxh3_64_hexdigest(CHECK)
    assert digest("xxh3_128", CHECK) == xxhash.xxh3_128_hexdigest(CHECK)


def test_there_is_a_maker_for_every_name():
    assert tuple(ALGORITHMS) == DIGEST_NAMES

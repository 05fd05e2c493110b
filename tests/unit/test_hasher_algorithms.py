"""Digests by name, each equal to its reference."""

import hashlib
import zlib

import blake3
import pytest
import xxhash

from services.hasher.core.algorithms import ALGORITHMS, known, normal
from shared.errors import Rejected

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


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("SHA-256", "sha256"),
        (" md5 ", "md5"),
        ("sha3-256", "sha3_256"),
        ("CRC64-NVME", "crc64nvme"),
        ("odd-1", "odd_1"),
    ],
)
def test_spellings_of_one_digest_are_one(name, kept):
    assert normal(name) == kept


def test_every_algorithm_is_known_by_its_own_name():
    assert known(ALGORITHMS) == tuple(ALGORITHMS)


def test_names_are_kept_once_in_their_order():
    assert known(["sha256", "MD5", "SHA-256", " "]) == ("sha256", "md5")


def test_a_digest_nobody_knows_is_rejected_with_those_that_are():
    with pytest.raises(Rejected, match=r"rot13.*known are.*sha256") as refused:
        known(["md5", "rot13\n\u202e"])
    assert "\u202e" not in str(refused.value)

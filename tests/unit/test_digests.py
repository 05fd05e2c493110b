"""Digests by name, however they are spelled."""

import pytest

from shared.digests import DIGEST_NAMES, normalize_name, normalize_names, split_names
from shared.errors import Rejected


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
    assert normalize_name(name) == kept


def test_every_algorithm_is_known_by_its_own_name():
    assert normalize_names(DIGEST_NAMES) == DIGEST_NAMES


def test_names_are_kept_once_in_their_order():
    assert normalize_names(["sha256", "MD5", "SHA-256", " "]) == ("sha256", "md5")


def test_a_digest_nobody_knows_is_rejected_with_those_that_are():
    with pytest.raises(Rejected, match=r"rot13.*known are.*sha256") as refused:
        normalize_names(["md5", "rot13\n\u202e"])
    assert "\u202e" not in str(refused.value)


def test_a_list_has_commas_or_blanks():
    assert split_names(" md5,sha256  crc32, ") == ["md5", "sha256", "crc32"]

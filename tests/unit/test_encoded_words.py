"""Encoded words of RFC 2047, as MinIO, AWS and mail libraries write them."""

import pytest

from shared.encoded_words import decode_words


@pytest.mark.parametrize(
    ("text", "decoded"),
    [
        ("plain", "plain"),
        ("", ""),
        ("Größe", "Größe"),
        ("=?UTF-8?Q?Gr=C3=B6=C3=9Fe?=", "Größe"),
        ("=?utf-8?b?R3LDtsOfZQ==?=", "Größe"),
        ("=?utf-8*de?q?Gr=C3=B6=C3=9Fe?=", "Größe"),
        ("=?iso-8859-1?Q?caf=E9_au_lait?=", "café au lait"),
        ("=?shift_jis?B?k/qWew==?=", "日本"),
        ("a =?utf-8?Q?b?= c", "a b c"),
        ("=?utf-8?Q?a?= =?utf-8?Q?b?=", "ab"),
        ("=?utf-8?Q?=E6=97?= =?utf-8?Q?=A5?=", "日"),
        ("=?utf-8?Q?a?=  =?iso-8859-1?Q?=E9?=", "aé"),
        ("=?UTF-8?B?2YXbjOKAjNix2YjYrw==?=", "می\u200cرود"),
    ],
)
def test_encoded_words_are_decoded(text, decoded):
    assert decode_words(text) == decoded


@pytest.mark.parametrize(
    "text",
    [
        "=?utf-8?Q?a=0D=0ASet-Cookie:_b?=",
        "=?utf-8?B?AA==?=",
        "=?utf-8?B?not base64?=",
        "=?utf-8?B?abc?=",
        "=?utf-8?Q?=FF?=",
        "=?unknown?Q?a?=",
        "=?rot13?Q?a?=",
        "=?unicode_escape?Q?a?=",
        "=?utf-8?X?a?=",
        "=?utf-8?Q?a",
        "2 =? 3",
    ],
)
def test_what_is_no_encoded_word_or_hides_control_characters_stays(text):
    assert decode_words(text) == text


def test_a_long_text_takes_no_long_time():
    text = "=?utf-8?Q?" * 50_000
    assert decode_words(text) == text

"""File names as clients really send them: each is read as it was meant, or refused with what came."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingress.core.filenames import parse_disposition
from services.ingress.core.names import safe_path
from shared.errors import Rejected
from shared.text import visible

EUROS = "=?UTF-8?B?4oI=?= =?utf-8?b?rOKCrA==?="
"""Two euro signs; the first one begins in one encoded word and ends in the next."""

UNDERSTOOD = {
    "a browser's": ('filename="naïve.csv"', "naïve.csv"),
    ".NET: both, and filename* counts": (
        "filename=\"=?utf-8?B?MTEwMMOpLmNzdg==?=\"; filename*=utf-8''1100%C3%A9.csv",
        "1100é.csv",
    ),
    "filename* first": ("filename*=UTF-8''%E2%82%AC.csv; filename=\"_.csv\"", "€.csv"),
    "filename* alone, as old requests sent it": ("filename*=utf-8''1100%C3%A9.csv", "1100é.csv"),
    "filename* in Latin-1, with a language": ("filename*=iso-8859-1'de'gr%FC%DFe.csv", "grüße.csv"),
    "filename* in quotes": ("filename*=\"utf-8''a%20b.csv\"", "a b.csv"),
    "filename* in pieces": ("filename*0*=utf-8''1100%C3; filename*1*=%A9; filename*2=\".csv\"", "1100é.csv"),
    "a name in pieces": ('filename*1="b.csv"; filename*0="a"', "ab.csv"),
    "an encoded word in base64": ('filename="=?utf-8?B?MTEwMMOpLmNzdg==?="', "1100é.csv"),
    "an encoded word by letters": ('filename="=?ISO-8859-1?Q?na=EFve_x.csv?="', "naïve x.csv"),
    "encoded words": (f'filename="{EUROS}"', "€€"),
    "an encoded word in Japanese": ('filename="=?ISO-2022-JP?B?GyRCRnxLXBsoQi5jc3Y=?="', "日本.csv"),
    "Latin-1": (b'filename="caf\xe9 gr\xfc\xdfe.csv"', "café grüße.csv"),
    "Windows-1252": (b'filename="\x80 \x93x\x94.csv"', "€ “x”.csv"),
    "no quotes": ("filename=a.csv", "a.csv"),
    "no quotes, and blanks": ("filename=my file (1).csv; x=y", "my file (1).csv"),
    "quotes before quotes": (r'filename="say \"hi\".csv"', 'say "hi".csv'),
    "quotes as browsers write them": ('filename="say %22hi%22.csv"', 'say "hi".csv'),
    "other percents are the name's own": ('filename="100%25 a+b%20c.csv"', "100%25 a+b%20c.csv"),
    "a backslash before a backslash, as Go writes it": (r'filename="a\\b.csv"', r"a\b.csv"),
    "a full path of Windows": (r'filename="C:\Users\me\a.csv"', "a.csv"),
    "a path in a network": (r'filename="\\server\share\a.csv"', "a.csv"),
    "the same, escaped": (r'filename="C:\\Users\\me\\a.csv"', "a.csv"),
    "semicolons within quotes": ('filename="a;b=c.csv"; size=3', "a;b=c.csv"),
    "blanks around signs": ('filename = "a.csv" ;', "a.csv"),
    "a name in capitals": ('FILENAME="a.csv"', "a.csv"),
    "what only looks like an encoded word": ('filename="why=?x?=.csv"', "why=?x?=.csv"),
    "Persian": ('filename="می\u200cخواهم.csv"', "می\u200cخواهم.csv"),  # noqa: RUF001 - its letters
    "no file": ("x=y", None),
}
REFUSED = {
    "a quote that ends nothing": ('filename="a"b.csv"', 'a"b.csv'),
    "a quote that never ends": ('filename="a.csv', "a.csv"),
    "an unknown encoding": ('filename="=?x-odd?B?4oKs?="', "x-odd"),
    "an encoding that is none of text": ('filename="=?unicode_escape?B?4oKs?="', "unicode_escape"),
    "an encoded word that is no base64": ('filename="=?utf-8?B?!!?="', "!!"),
    "filename* of other bytes": ("filename*=utf-8''%FF.csv", "%FF.csv"),
    "filename* without an encoding": ("filename*=a.csv", "a.csv"),
    "a broken filename* beside a name": ("filename=\"a.csv\"; filename*=utf-8''%FF.csv", "%FF.csv"),
    "a piece that is missing": ("filename*0*=utf-8''a; filename*2=c", "filename*2=c"),
    "two names": ('filename="a.csv"; filename="b.csv"', "b.csv"),
    "Chinese bytes": (b'filename="\xd6\xd0\xce\xc4.csv"', "ÖÐÎÄ.csv"),
    "bytes of no letters": (b'filename="a\x81.csv"', r"a\x81.csv"),
    "a mark of UTF-16": (b'filename="\xff\xfea.csv"', "ÿþa.csv"),
}


def sent(parameters):
    raw = parameters if isinstance(parameters, bytes) else parameters.encode()
    return (b'form-data; name="file"; ' + raw).decode("latin-1")


@pytest.mark.parametrize("kind", UNDERSTOOD)
def test_file_name_is_parsed_as_its_client_meant_it(kind):
    parameters, name = UNDERSTOOD[kind]
    assert parse_disposition(sent(parameters)) == ("file", name)


@pytest.mark.parametrize("kind", REFUSED)
def test_name_that_cannot_be_understood_is_refused_and_shown(kind):
    parameters, shown = REFUSED[kind]
    with pytest.raises(Rejected) as refused:
        parse_disposition(sent(parameters))
    assert refused.value.code == "BAD_FILENAME"
    assert shown in str(refused.value)
    assert "UTF-8" in str(refused.value)


def test_field_name_must_be_utf8():
    assert parse_disposition("form-data; name=file").field == "file"
    with pytest.raises(Rejected) as refused:
        parse_disposition('form-data; name="f\xff"; filename="a"')
    assert refused.value.code == "NO_UTF8"


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='\\"%=:'), max_size=60)


@given(NAMES)
def test_file_name_of_a_browser_round_trips(name):
    assert parse_disposition(sent(f'filename="{name}"')).filename == name


@given(st.binary(max_size=80).filter(lambda raw: not set(raw) & set(b"\r\n")))
def test_any_bytes_are_a_name_or_refused(raw):
    refusal = None
    try:
        parse_disposition(sent(b'filename="' + raw + b'"'))
    except Rejected as refused:
        refusal = refused
    if refusal is not None:
        assert refusal.code in {"BAD_FILENAME", "NO_UTF8"}
        assert str(refusal) == visible(str(refusal))


HOSTILE = ["\\\\" * 4000, '\\"' * 4000, "=?a?b?" * 1300, "=?utf-8?b??= " * 700 + "=?", " " * 8000 + '"']


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.timeout(10)
def test_hostile_file_name_is_parsed_fast(hostile):
    for written in (f"filename={hostile}", f'filename="{hostile}"', f'filename="{hostile}'):
        try:
            parse_disposition(sent(written))
        except Rejected:
            continue


@pytest.mark.parametrize(("filename", "key"), [("sub\\x.py", "sub/x.py"), ("sub/x.py", "sub/x.py")])
def test_folders_are_parted_by_either_slash(filename, key):
    assert safe_path(filename) == key

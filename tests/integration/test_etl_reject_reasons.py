"""Files of unexpected formats on a real Postgres: loaded, or rejected with the actual cause."""

import gzip
from functools import partial

import pytest

from tests.fakes.etl import etl_on
from tests.support import uploads
from tests.unit.test_etl_images import APP, jpeg, segment

compressed = partial(gzip.compress, mtime=0)
pytestmark = pytest.mark.integration

ADA = ("Ada", "Byron", 473_385_600_000, "")
HEAD = "user_id,first_name,last_name,birthts\n"


@pytest.fixture
async def etl(servers):
    async with etl_on(servers.env, etl_large_bytes=4000) as etl:
        yield etl


async def rejects_of(etl, name):
    rows = await etl.pool.fetch(
        'select row, "column", code, reason from api.rejects where dataset = $1 and key = $2 order by row, "column"',
        etl.name,
        etl.key(name),
    )
    return [tuple(row) for row in rows]


@pytest.mark.parametrize(
    "body",
    [
        b"first_name;last_name;birthts\nAda;Byron;473385600000\n",
        b"sep=,\nfirst_name,last_name,birthts\nAda,Byron,473385600000\n",
        b"sep=;\r\nfirst_name;last_name;birthts\r\nAda;Byron;473385600000\r\n",
        b"first_name|last_name|birthts|\nAda|Byron|473385600000|\n",
        b"\xef\xbb\xbf\xef\xbb\xbffirst_name,last_name,birthts\nAda,Byron,473385600000\n",
        b'="first_name",last_name,birthts\n="Ada",Byron,="473385600000"\n',
        compressed(b"first_name,last_name,birthts\nAda,Byron,473385600000\n"),
    ],
)
async def test_files_of_other_programs_are_loaded(etl, body):
    await etl.deliver(await etl.put("1.csv", body))
    assert await etl.rows() == {"1": ADA}
    assert await etl.rejects() == []


async def test_leading_zeros_of_formula_key_are_preserved(etl):
    await etl.deliver(await etl.put("x.csv", HEAD.encode() + b'="00123",="Ada",Byron,473385600000\n'))
    assert await etl.rows() == {"00123": ADA}


async def test_births_around_1970_are_milliseconds(etl):
    rows = {"21a": -1, "21b": 1_206_000_000, "21c": -1_006_200_000}
    body = HEAD + "".join(f"{user},Ada,x,{ms}\n" for user, ms in rows.items())
    await etl.deliver(await etl.put("x.csv", body.encode()))
    assert {user: row[2] for user, row in (await etl.rows()).items()} == rows


async def test_large_gzip_without_gz_extension_is_loaded(etl):
    people = "".join(f"{number},Ada {hash(number)},Byron,{number}\n" for number in range(20_000))
    await etl.deliver(await etl.put("x.csv", compressed((HEAD + people).encode())))
    await etl.work()
    assert len(await etl.rows()) == 20_000
    assert await etl.rejects() == []


async def test_all_wrong_cells_are_shown_and_count_as_one_row(etl):
    body = HEAD + "1,,,soon\n2,Ada,Byron,473385600000\n3,Ada,,1e400\n"
    for name, padding in (("small.csv", ""), ("large.csv", "\n" * 5000)):
        await etl.deliver(await etl.put(name, (body + padding).encode()))
        await etl.work()
        assert [row[:3] for row in await rejects_of(etl, name)] == [
            (2, "birthts", "NOT_A_NUMBER"),
            (2, "first_name", "BLANK"),
            (2, "last_name", "BLANK"),
            (4, "birthts", "OUT_OF_RANGE"),
            (4, "last_name", "BLANK"),
        ] or name
        counted = await etl.pool.fetchval("select rejected from api.sources where key = $1", etl.key(name))
        assert counted == 2
        assert etl.facts()[-1].rejected == 2


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<!DOCTYPE html><html>", "the file is an HTML page"),
        (b"\0\x05\x16\x07\0\x02\0\0Mac OS X        ", "the file is what macOS keeps beside a file"),
        (b"first_name,last_name\n", "the file is text"),
        (b"PK\x03\x04" + bytes(40), "the file is a zip archive"),
        (bytes(5000), "the file is nothing but NUL bytes"),
        (b"", "the file is empty"),
    ],
)
async def test_non_image_is_rejected_with_its_actual_type(etl, body, said):
    await etl.deliver(await etl.put("1.png", body))
    ((row, _, code, reason),) = await rejects_of(etl, "1.png")
    assert (row, code) == (0, "NOT_AN_IMAGE")
    assert reason.startswith(said)


async def test_image_size_after_megabytes_is_found_by_range_reads(etl):
    extended_xmp = segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(65_000))
    body = jpeg(640, 480, APP, *[extended_xmp] * 20)
    await etl.deliver(await etl.put("1.csv", uploads.one_row("1", ("Ada", "Byron", 473_385_600_000)).body))
    await etl.deliver(await etl.put("1.jpg", body), await etl.put("2.jpg", b"\xff\xd8\xff\xe0"))
    assert await etl.rejects() == []
    row = await etl.pool.fetchrow(f'select img_type, img_width, img_height from api."{etl.name}"')  # noqa: S608
    assert tuple(row) == ("image/jpeg", 640, 480)

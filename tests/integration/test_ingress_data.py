"""Tables over HTTP from a real Postgres: contract, filters, formats, streams of any size, loads, and their page."""

import io
import json
import random
import re
import struct
import time
import zlib
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta

import httpx
import polars as pl
import pytest
from playwright.sync_api import expect

from services.etl.core.datasets import Datasets
from tests.support import ingress
from tests.support.browser import chromium, visiting
from tests.support.etl_reading import understood
from tests.support.memory import peak, reset_peak, resident
from tests.support.tables import Table, age_on, milliseconds
from tests.support.topics import Kafka
from tests.support.waiting import until

pytestmark = pytest.mark.integration

MANY = 200_000
STREAMS = 3
STONES = """
[{name}]
bucket = "src-data"
prefix = "{prefix}"
key = "id"
[{name}.columns]
weight = {{ type = "number" }}
is_wet = {{ type = "boolean" }}
found = {{ type = "date" }}
seen = {{ type = "timestamp" }}
age = {{ type = "integer" }}
"""
AWKWARD = ('"', "\\", "\\.", "\\n", "a\nb", "a\rb", "\t", "\x01\x02\x1f", "\u2028", "😀", "{},:", "''", "é", "", "$1")


@pytest.fixture
def root(system):
    ingress.serve(system, data_streams=STREAMS)
    with ingress.client(system) as client:
        yield client


@pytest.fixture(scope="module", autouse=True)
def nothing_left_to_do(stack):
    """Let no service of a later test be asked for loads of tables that are gone."""
    yield
    Kafka(stack.env).skip("etl", "etl.requested.v1")


@pytest.fixture
def made(system):
    """Make tables that are gone after the test."""
    with ExitStack() as ended:

        def making(**text):
            table = Table(system, **text)
            ended.callback(table.drop)
            return table

        yield making


@pytest.fixture
def table(made):
    return made()


@pytest.fixture(scope="module")
def browser(stack):
    with chromium(stack.state_dir) as running:
        yield running


@pytest.fixture
def visit(browser, system, root):
    with ExitStack() as opened:

        def opening(**options):
            link = root.post("/login/links").json()["url"]
            return opened.enter_context(visiting(browser, system, logged_in=link, **options))

        yield opening


def ask(root, table, path="/data", **query):
    return root.get(path, params={"dataset": table.name, **query})


def get(root, table, path="/data", **query):
    answer = ask(root, table, path, **query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ages(table, people):
    """Store people by their days of birth; return their ages by id, as Python's calendar has them."""
    table.add(*((f"{n:05}", "A", "B", milliseconds(born)) for n, born in enumerate(people)))
    today = datetime.now(UTC).date()
    return {f"{n:05}": age_on(today, born) for n, born in enumerate(people)}


def test_rows_are_one_object_by_user_id(root, table):
    table.add(("1001", "Ada", "Lovelace", -4_874_688_000_000), ("1000", "Zoë", None, 0))
    path = table.image("1001")
    answer = ask(root, table)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "1000": {"first_name": "Zoë", "last_name": None, "birthts": 0, "img_path": ""},
        "1001": {"first_name": "Ada", "last_name": "Lovelace", "birthts": -4_874_688_000_000, "img_path": path},
    }
    assert list(answer.json()) == ["1000", "1001"]
    assert list(answer.json()["1000"]) == ["first_name", "last_name", "birthts", "img_path"]


def test_a_table_without_rows_is_an_empty_object(root, table):
    assert get(root, table) == {}
    assert get(root, table, limit=5) == {}
    assert ask(root, table, format="csv").text == "user_id,first_name,last_name,birthts,img_path\n"
    assert pl.read_parquet(io.BytesIO(ask(root, table, format="parquet").content)).height == 0


def test_every_character_comes_out_as_it_went_in(root, table):
    texts = {f"{n}{text}": text for n, text in enumerate(AWKWARD)}
    table.add(*((key, text, text * 3, 1) for key, text in texts.items()))
    found = get(root, table)
    assert {key: (row["first_name"], row["last_name"]) for key, row in found.items()} == {
        key: (text, text * 3) for key, text in texts.items()
    }
    stored = pl.read_parquet(io.BytesIO(ask(root, table, format="parquet").content))
    assert dict(stored.select("user_id", "first_name").iter_rows()) == texts


def test_ages_are_whole_calendar_years_and_bounds_are_included(root, table):
    today = datetime.now(UTC).date()
    near = [today + timedelta(days=days) for days in (-367, -366, -365, -364, -1, 0)]
    years = [
        one.replace(year=one.year - back) for one in near for back in (4, 20, 40) if (one.month, one.day) != (2, 29)
    ]
    leap = [date(year, 2, 29) for year in (1904, 1996, 2000, 2004)]
    model = ages(table, [*near, *years, *leap])
    for least, most in ((0, 0), (1, 1), (20, 20), (19, 21), (22, 30), (20, None), (None, 4), (None, 0), (121, 122)):
        params = {name: age for name, age in (("min_age", least), ("max_age", most)) if age is not None}
        expected = {key for key, age in model.items() if (least or 0) <= age <= (200 if most is None else most)}
        assert set(get(root, table, **params)) == expected, (least, most)


def test_filters_combine(root, table):
    model = ages(table, [date(1950 + n, 5, 5) for n in range(40)])
    with_image = {key for key in model if int(key) % 3 == 0}
    for key in with_image:
        table.image(key)
    aged = {key for key, age in model.items() if 40 <= age <= 60}
    assert set(get(root, table, is_image_exists="True", min_age=40, max_age=60)) == with_image & aged
    assert set(get(root, table, is_image_exists="0", min_age=40, max_age=60)) == aged - with_image
    assert set(get(root, table, is_image_exists="false")) == set(model) - with_image
    assert set(get(root, table, contains="0001")) == {key for key in model if "0001" in key}


def test_text_is_looked_for_as_it_is(root, table):
    table.add(("1", "50%", "x", 1), ("2", "50x", "y", 1), ("3", "Ünal", "O'Hara", 1), ("4", None, "a\\b", 1))
    for text, found in (("0%", {"1"}), ("ü", {"3"}), ("o'h", {"3"}), ("a\\b", {"4"}), ("_", set()), ("4", {"4"})):
        assert set(get(root, table, contains=text)) == found, text


@pytest.mark.parametrize(
    "name", ['users"; drop schema api cascade; --', "datasets", "rejects", "../users", "é", "u" * 99]
)
def test_a_name_that_is_no_dataset_is_told_and_reaches_nothing(root, table, name):
    answer = root.get("/data", params={"dataset": name})
    assert answer.status_code in {404, 422}
    assert answer.json()["code"] in {"DATASET_UNKNOWN", "BAD_REQUEST"}
    assert get(root, table) == {}


def test_values_cannot_leave_their_place(root, table):
    table.add(("1", "A", "B", 1))
    for text in ("'", "'; drop schema api cascade; --", "$1", "\\'", "%s", "{}", "{0}"):
        assert get(root, table, contains=text) == {}
        get(root, table, after=text, limit=1)
        assert root.get("/data/loads/" + text.replace("/", "")).status_code == 404


def test_csv_has_the_contracts_columns_and_no_formula(root, table):
    table.add(("1000", "=1+1", 'say "hi", and', 5), ("1001", "@x", None, -5))
    path = table.image("1000")
    answer = root.get("/data", params={"dataset": table.name}, headers={"accept": "text/csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert f'filename="{table.name}.csv"' in answer.headers["content-disposition"]
    assert answer.text.splitlines() == [
        "user_id,first_name,last_name,birthts,img_path",
        f'1000,\'=1+1,"say ""hi"", and",5,{path}',
        '1001,\'@x,,-5,""',
    ]


def test_guarded_keys_keep_their_order(root, table):
    table.add(*((key, "A", "B", 1) for key in ("=", "0", "a", "-")))
    assert list(get(root, table)) == ["-", "0", "=", "a"]
    lines = ask(root, table, format="csv").text.splitlines()
    assert [line.partition(",")[0] for line in lines] == ["user_id", "'-", "0", "'=", "a"]
    assert follow(root, ask(root, table, format="csv", limit=2)).text.splitlines()[1].startswith("'=,")


def test_parquet_has_types_and_raw_values(root, table):
    table.add(("1000", "=1+1", None, -5))
    answer = ask(root, table, format="parquet", limit=1)
    stored = pl.read_parquet(io.BytesIO(answer.content))
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert stored.schema["birthts"] == pl.Int64
    assert stored.rows() == [("1000", "=1+1", None, -5, "")]


def test_another_dataset_has_columns_of_its_own(root, made):
    stones = made(text=STONES)
    stones.sql(
        "insert into {} values ('a', 'NaN', true, '2020-02-29', '2020-01-01T00:00:00+02', 7, $1, 1)", stones.file
    )
    assert get(root, stones) == {
        "a": {
            "weight": "NaN",
            "is_wet": True,
            "found": "2020-02-29",
            "seen": "2019-12-31T22:00:00+00:00",
            "age": 7,
            "img_path": "",
        }
    }
    stored = pl.read_parquet(io.BytesIO(ask(root, stones, format="parquet").content))
    assert stored.schema["seen"] == pl.Datetime("us", "UTC")
    assert stored["found"].to_list() == [date(2020, 2, 29)]
    assert get(root, stones, "/stats")["average_age"] is None
    assert ask(root, stones, min_age=1).json()["code"] == "NO_AGES"


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_what_is_asked_for_as_a_file_is_read_again_as_it_was(root, made, form):
    stones = made(text=STONES)
    first, last = datetime(1, 1, 1, 0, 0, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    rows = [  # the first and the last day of Python's calendar are infinite to asyncpg
        ("'=1", 5e-324, True, date(1, 1, 2), first, 2**63 - 1),
        ("-", -0.0, False, date(9999, 12, 30), last, -(2**63)),
        ("=1", *[None] * 5),
        ('José, "x"', 0.1, None, None, datetime(2020, 1, 1, 1, 2, 3, 4, UTC), 0),
        ("\\N", *[None] * 5),
    ]
    for row in rows:
        stones.sql("insert into {} values ($1, $2, $3, $4, $5, $6, $7, 1)", *row, stones.file)
    dataset = Datasets.parse(STONES.format(name="stones", prefix="")).by_name["stones"]
    body = ask(root, stones, format=form).content
    found, rejects = understood(body, f"x.{form}", dataset, block_bytes=1 << 20)
    assert (sorted(found), rejects) == (sorted(rows), [])


def follow(root, answer):
    """Return the page after this one; None at the end."""
    link = re.fullmatch('<(.*)>; rel="next"', answer.headers.get("link", ""))
    return root.get(link[1]) if link else None


@pytest.mark.parametrize("form", ["json", "csv"])
def test_pages_are_complete_and_tell_nothing_twice_while_rows_change(root, table, form):
    table.add_many(1000)
    stays = {f"{n:08}" for n in range(1, 1001) if n % 10}
    seen, chance, page = [], random.Random(3), ask(root, table, limit=37, format=form)
    while page is not None:
        assert page.status_code == 200
        keys = list(page.json()) if form == "json" else [one.split(",")[0] for one in page.text.splitlines()[1:]]
        assert 1 <= len(keys) <= 37
        seen += keys
        table.remove([f"{10 * chance.randint(1, 100):08}"])
        table.add((f"{chance.randint(1, 999):08}.{chance.random()}", "new", "new", 1))
        page = follow(root, page)
    assert seen == sorted(set(seen))
    assert stays <= set(seen)


def test_the_last_page_has_no_next(root, table):
    table.add_many(10)
    assert follow(root, ask(root, table, limit=10)) is None
    second = follow(root, ask(root, table, limit=9, min_age=1))
    assert list(second.json()) == ["00000010"]
    assert follow(root, second) is None


def test_two_hundred_thousand_rows_stream_in_flat_memory(root, system, table):
    table.add_many(MANY)
    get(root, table, limit=1)
    pid = system.stack.pid("ingress")
    before = resident(pid)
    reset_peak(pid)
    got = 0
    with root.stream("GET", "/data", params={"dataset": table.name}) as answer:
        last = b""
        for piece in answer.iter_raw():
            got += len(piece)
            last = (last + piece)[-200:]
    assert got > 15 << 20
    assert peak(pid) - before < 16 << 20
    assert last.rstrip().endswith(b"}}") or last.rstrip().endswith(b"}\n}")
    found = get(root, table)
    assert len(found) == MANY
    assert found[f"{MANY:08}"] == {
        "first_name": f"First{MANY}",
        "last_name": f"O'Last {MANY}",
        "birthts": MANY * 1000,
        "img_path": "",
    }
    stored = pl.read_parquet(io.BytesIO(ask(root, table, format="parquet").content))
    assert (stored.height, stored["birthts"].sum()) == (MANY, 1000 * MANY * (MANY + 1) // 2)


def busy(system):
    """Count the connections on which a stream is read."""
    question = (
        "select count(*) from pg_stat_activity where application_name = 'penstock-ingress-data' and state <> 'idle'"
    )
    return system.database.rows(question)[0]["count"]


def test_who_takes_his_time_keeps_nobody_waiting_but_those_who_stream_too(root, system, table):
    table.add_many(MANY)
    other = root.post("/tokens", json={"name": f"slow-{table.name}", "scopes": ["read"]}).json()["token"]
    with ExitStack() as slow:
        for reader in (root, root, slow.enter_context(ingress.client(system, other))):
            answer = slow.enter_context(reader.stream("GET", "/data", params={"dataset": table.name}))
            assert answer.status_code == 200
        refused = ask(root, table)
        assert refused.status_code == 503
        assert refused.json()["code"] == "TOO_MANY_STREAMS"
        assert int(refused.headers["retry-after"]) > 0
        assert root.get("/stats/database").status_code == 200
        assert get(root, table, "/data/rejects") == {"rejects": [], "next": None}
        assert busy(system) == STREAMS
    until(lambda: busy(system) == 0, 10, "a client that is gone leaves no statement behind")
    assert len(get(root, table, limit=3)) == 3


def test_a_stream_that_postgres_breaks_off_is_seen_to_be_no_whole_one(root, system, table):
    table.add_many(MANY)
    with root.stream("GET", "/data", params={"dataset": table.name}) as answer:
        pieces = answer.iter_raw()
        next(pieces)
        system.database.rows(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'penstock-ingress-data'"
        )
        with pytest.raises(httpx.RemoteProtocolError):
            list(pieces)
    assert len(get(root, table, limit=3)) == 3


def test_counts_and_ages_are_of_what_the_filters_leave(root, table):
    model = ages(table, [date(1940 + n, 3, 3) for n in range(70)])
    table.add(("ageless", "A", "B", None))
    table.image("00003")
    table.image("00050")
    reply = get(root, table, "/stats")
    assert (reply["count"], reply["with_image"], reply["without_image"]) == (71, 2, 69)
    assert reply["average_age"] == round(sum(model.values()) / 70, 1)
    assert (reply["min_age"], reply["max_age"]) == (min(model.values()), max(model.values()))
    assert sum(bar["count"] for bar in reply["ages"]) == 70
    chosen = [age for age in model.values() if 30 <= age <= 50]
    reply = get(root, table, "/stats", min_age=30, max_age=50)
    assert (reply["count"], reply["average_age"]) == (len(chosen), round(sum(chosen) / len(chosen), 1))
    for bar in reply["ages"]:
        assert bar["count"] == sum(bar["from"] <= age <= bar["to"] for age in chosen)
    empty = get(root, table, "/stats", min_age=190)
    assert (empty["count"], empty["average_age"], empty["ages"]) == (0, None, [])


def test_a_load_is_asked_for_on_the_bus_and_followed(root, system, table):
    answer = root.post("/data", params={"dataset": table.name})
    reply = answer.json()
    assert answer.status_code == 202
    sent = [json.loads(fact.value) for fact in system.kafka.read("etl.requested.v1")]
    assert [one["dataset"] for one in sent if one["load_id"] == reply["load_id"]] == [table.name]
    assert root.get(answer.headers["location"]).json()["state"] == "requested"
    table.sql(
        "insert into etl.loads (load_id, dataset, why, state, listed, correlation_id, started_at)"
        " values ($1, $2, 'request', 'running', 5, 'c', now())",
        reply["load_id"],
        table.name,
    )
    load = root.get(answer.headers["location"]).json()
    assert (load["state"], load["listed"], load["dataset"]) == ("running", 5, table.name)
    assert root.get("/data/loads", params={"limit": 1}).json()[0]["load_id"] == reply["load_id"]
    assert root.get("/data/loads/" + "0" * 32).status_code == 404


def test_without_kafka_a_load_is_put_off_within_five_seconds(root, system, table):
    with system.without("kafka"):
        began = time.monotonic()
        answer = root.post("/data", params={"dataset": table.name})
        assert answer.status_code == 503
        assert time.monotonic() - began < 5
        assert get(root, table) == {}


def test_rejects_are_told_by_file_and_row_in_pages_and_as_csv(root, table):
    for name in ("b.csv", "a.csv"):
        table.source(name, "rows")
        for row in range(15):
            table.reject(name, row, column="birthts", value="=x", reason="no number: write one")
    found, following = [], ""
    while following is not None:
        page = get(root, table, "/data/rejects", limit=7, after=following)
        found, following = found + page["rejects"], page["next"]
    rows = [(one["key"].rpartition("/")[2], one["row"]) for one in found]
    assert rows == [(name, row) for name in ("a.csv", "b.csv") for row in range(15)]
    assert found[0]["reason"] == "no number: write one"
    one_file = get(root, table, "/data/rejects", file=found[0]["key"])
    assert len(one_file["rejects"]) == 15
    lines = ask(root, table, "/data/rejects", format="csv").text.splitlines()
    assert lines[0] == "bucket,key,row,column,value,code,reason,rejected_at"
    assert len(lines) == 31
    assert ",'=x,BAD," in lines[1]


def test_a_definition_of_another_version_hides_no_other_dataset(root, table):
    name = f"{table.name}x"
    table.sql("insert into etl.datasets values ($1, '{{\"name\": 7}}')", name)
    table.sql(f"create view api.{name} as select 1 as one")
    try:
        assert get(root, table) == {}
        assert root.get("/data", params={"dataset": name}).status_code == 404
    finally:
        table.sql("delete from etl.datasets where name = $1", name)
        table.sql(f"drop view api.{name}")


def image():
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    size, rows = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0), zlib.compress(b"\x00\x10\x80\x80")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.fixture
def filled(table):
    """A table with a picture, hostile names, and something that was rejected."""
    long = "a-name-that-goes-on-and-on-" * 4
    table.add(*((f"{n}", "Zoë", "<img src=x onerror=alert(1)>", n * 10**10) for n in range(1000, 1100)))
    table.image("1000", image())
    table.source(f"{long}.csv", "rows")
    table.reject(f"{long}.csv", 3, column="birthts", value="x" * 200, reason="birthts is no number: write milliseconds")
    return table


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_keeps_people_from_using_the_page(visit, filled, scheme):
    visitor = visit(color_scheme=scheme)
    page = visitor.go(f"/users?dataset={filled.name}")
    expect(page.get_by_role("rowheader", name="1000", exact=True)).to_be_visible()
    expect(page.get_by_role("cell", name="<img src=x").first).to_be_visible()
    assert page.locator("img").count() == 1
    until(lambda: page.evaluate("document.querySelector('img').naturalWidth") == 1, 10, "the picture is shown")
    assert visitor.findings() == []
    page.get_by_label("Image", exact=True).select_option("true")
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".sheet tbody tr")).to_have_count(1)
    expect(page.locator(".counts")).to_contain_text("1 row,")
    page.get_by_role("link", name="Show all").click()
    page.get_by_role("link", name="More rows").click()
    expect(page.get_by_role("rowheader", name="1099", exact=True)).to_be_visible()
    assert visitor.complaints == []


def test_the_page_is_no_wider_than_a_phone(visit, filled):
    page = visit(viewport={"width": 360, "height": 740}).go(f"/users?dataset={filled.name}&min_age=1")
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_a_load_that_is_run_from_the_page_is_followed_on_it(visit, filled):
    visitor = visit()
    page = visitor.go(f"/users?dataset={filled.name}")
    page.get_by_role("button", name="Run now").click()
    expect(page.locator("#loads .badge")).to_have_text("asked for")
    load_id = page.locator("#loads tr[data-load]").get_attribute("data-load")
    filled.sql(
        "insert into etl.loads (load_id, dataset, why, state, correlation_id, started_at, finished_at)"
        " values ($1, $2, 'request', 'succeeded', 'c', now(), now())",
        load_id,
        filled.name,
    )
    expect(page.locator("#loads .badge")).to_have_text("done")
    assert visitor.findings() == []
    assert visitor.complaints == []


def test_the_page_works_without_scripts(visit, filled):
    page = visit(java_script_enabled=False).go(f"/users?dataset={filled.name}")
    page.get_by_label("Contains").fill("1042")
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".sheet tbody tr")).to_have_count(1)
    page.get_by_role("button", name="Run now").click()
    expect(page.locator("#loads .badge")).to_have_text("asked for")


def test_who_sees_another_part_of_the_bucket_sees_no_table(root, system, table):
    reply = root.post(
        "/tokens", json={"name": table.name, "scopes": ["read"], "places": ["src-data/elsewhere/"]}
    ).json()
    with ingress.client(system, reply["token"]) as other:
        assert ask(other, table).status_code == 404
        assert httpx.codes.is_success(ask(root, table).status_code)

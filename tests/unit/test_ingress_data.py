"""What may be asked of a table, and how it is said: filters, formats, ids of loads, ages, and the SQL of it."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.ingress.adapters import rejects, selects
from services.ingress.core.access import Principal
from services.ingress.core.ages import AgeSpan, histogram, summarize
from services.ingress.core.data_page import DataPage
from services.ingress.core.datasets import parse_dataset
from services.ingress.core.filters import Filters, RowQuery, negotiate_format
from services.ingress.core.load_ids import REQUEST_TTL, new_load_id, requested_at
from shared.errors import Rejected
from tests.fakes.tables import ORDER, STONES, USERS

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = b"k" * 32
users = parse_dataset(USERS, ORDER)
stones = parse_dataset(STONES, ("id", "weight"))


@pytest.mark.parametrize("text", ["True", "true", "TRUE", "1"])
def test_flag_accepts_true_false_and_digits(text):
    assert Filters(is_image_exists=text).is_image_exists is True


@pytest.mark.parametrize("text", ["False", "false", "0"])
def test_so_is_false(text):
    assert Filters(is_image_exists=text).is_image_exists is False


def test_empty_form_values_set_no_filter():
    assert Filters(is_image_exists="", min_age="", max_age=" ", dataset="") == Filters()
    assert not Filters().is_filtered
    assert Filters(min_age="0").is_filtered
    assert Filters(is_image_exists="0").is_filtered


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("is_image_exists", "yes"),
        ("is_image_exists", "2"),
        ("min_age", "old"),
        ("min_age", "-1x"),
        ("min_age", "3e1"),
        ("max_age", "٣٥"),
        ("min_age", "NaN"),
    ],
)
def test_bad_value_is_refused_with_the_value_and_a_fix(name, value):
    with pytest.raises(ValidationError) as caught:
        Filters(**{name: value})
    (error,) = caught.value.errors()
    assert error["loc"] == (name,)
    assert value[:40] in error["msg"]
    assert "send" in error["msg"]
    assert len(error["msg"]) < 200


@pytest.mark.parametrize(
    "bounds",
    [
        {"min_age": "35.0"}, {"min_age": "35.5"}, {"min_age": "-1"}, {"max_age": "35.0"}, {"max_age": "-1"},
        {"max_age": "-0.5", "min_age": "3"}, {"min_age": "41", "max_age": "40"},
    ],
)  # fmt: skip
def test_impossible_age_bounds_match_no_row(bounds):
    query = RowQuery(**bounds)
    assert query.match_nothing
    assert query.is_filtered
    for asked in (selects.rows_as_json(users, query, None), selects.age_spans(users, query)):
        assert " where false" in asked.text


def test_age_bounds_beyond_the_maximum_are_valid():
    assert not Filters(min_age="40", max_age="40").match_nothing
    assert not Filters(max_age="201").match_nothing
    assert Filters(max_age="9" * 5000).max_age == Filters(min_age="201").min_age == 201


def test_birth_timestamp_of_users_is_text_in_json_only():
    assert 'to_json(stored."birthts"::text)' in selects.rows_as_json(users, RowQuery(), None).text
    assert '"birthts"::text' not in selects.rows_as_cells(users, RowQuery(), None, is_escaped=True).text
    other = users.model_copy(update={"name": "others"})
    assert 'to_json(stored."birthts")' in selects.rows_as_json(other, RowQuery(), None).text


def test_age_filter_without_birth_column_is_refused():
    with pytest.raises(Rejected, match="stones declares no column"):
        Filters(min_age=1).require_ages(stones)
    Filters(is_image_exists=True).require_ages(stones)
    Filters(min_age=1).require_ages(users)


@pytest.mark.parametrize(
    ("named", "accept", "found"),
    [
        (None, "", "json"),
        (None, "*/*", "json"),
        (None, "text/html,application/xhtml+xml", "json"),
        (None, "text/csv", "csv"),
        (None, "text/plain, text/csv;q=0.5", "csv"),
        (None, "application/vnd.apache.parquet", "parquet"),
        ("json", "text/csv", "json"),
    ],
)
def test_format_is_named_or_accepted(named, accept, found):
    assert negotiate_format(named, accept) == found


def test_columns_have_the_order_of_the_view_and_not_that_of_jsonb():
    assert list(users.types) == ["user_id", "first_name", "last_name", "birthts", "img_path"]


@pytest.mark.parametrize("name", ['a"; drop table x', "A", "", "a\n", "a" * 42, "1a"])
def test_dataset_name_that_needs_sql_escaping_is_invalid(name):
    with pytest.raises(ValidationError):
        parse_dataset({**USERS, "name": name}, ORDER)
    with pytest.raises(ValidationError):
        parse_dataset({**USERS, "columns": {name: {"type": "text"}}}, ())


@pytest.mark.parametrize(
    ("places", "is_seen"), [((), True), (("src-data/",), True), (("src-data/a/",), False), (("inbox/",), False)]
)
def test_dataset_is_visible_only_with_access_to_all_its_files(places, is_seen):
    who = Principal("1", "one", frozenset({"read"}), places)
    assert users.is_visible_to(who) is is_seen


@given(st.text(max_size=40), st.text(max_size=40))
def test_outside_values_are_sql_arguments(contains, after):
    query = RowQuery.model_construct(
        contains=contains, after=after, limit=7, min_age=1, max_age=2, is_image_exists=True
    )
    bare = RowQuery.model_construct(contains="x", after="y", limit=7, min_age=1, max_age=2, is_image_exists=True)
    both = bool(contains), bool(after)
    for ask in (selects.rows_for_page, selects.last_key_of):
        if all(both):
            assert ask(users, query).text == ask(users, bare).text


def test_percent_signs_and_underlines_are_looked_for_as_they_are():
    assert selects.age_spans(users, Filters(contains="50%_\\")).arguments == ["%50\\%\\_\\\\%"]


@given(st.lists(st.tuples(st.text(max_size=5), st.integers(0, 2**62)), min_size=1, max_size=3))
def test_rejects_cursor_round_trips(places):
    for text, row in places:
        known = {"bucket": "b", "key": text.replace("\x00", ""), "row": row, "column": "", "code": "X"}
        asked = rejects.page(users, "", rejects.cursor_of(known), 10)
        assert asked.arguments[1:] == list(known.values())


@pytest.mark.parametrize("cursor", ["x", "e30", "bnVsbA", "WzEsMl0", "é", "WyJiIiwiYSIsIng"])
def test_invalid_rejects_cursor_is_refused(cursor):
    with pytest.raises(Rejected) as caught:
        rejects.page(users, "", cursor, 10)
    assert caught.value.code == "BAD_CURSOR"


def test_load_id_proves_when_it_was_issued():
    load_id = new_load_id(KEY, NOW, "users")
    assert len(load_id) == 32
    assert requested_at(KEY, load_id, NOW, ["stones", "users"]) == NOW
    assert requested_at(KEY, load_id, NOW + REQUEST_TTL + timedelta(seconds=1), ["users"]) is None
    assert requested_at(b"other", load_id, NOW, ["users"]) is None
    assert requested_at(KEY, load_id, NOW, ["stones"]) is None
    assert new_load_id(KEY, NOW, "users") != load_id


@pytest.mark.parametrize("load_id", ["", "x" * 32, "é" * 32, "0" * 32, "0" * 31])
def test_forged_load_id_is_unknown(load_id):
    assert requested_at(KEY, load_id, NOW, ["stones", "users"]) is None


def test_summary_averages_only_rows_with_an_age():
    spans = [AgeSpan(20, 2, 1, 45, 20, 25), AgeSpan(40, 1, 1, 41, 41, 41), AgeSpan(None, 1, 0, 0, None, None)]
    assert summarize(spans) == {
        "count": 4,
        "with_image": 2,
        "without_image": 2,
        "average_age": 28.7,
        "min_age": 20,
        "max_age": 41,
        "ages": [
            {"from": 20, "to": 29, "count": 2},
            {"from": 30, "to": 39, "count": 0},
            {"from": 40, "to": 49, "count": 1},
        ],
    }
    assert [bar.percent for bar in histogram(spans)] == [100, 0, 50]


def test_average_of_no_ages_is_null():
    assert summarize([])["average_age"] is None
    assert summarize([])["ages"] == []


def test_values_read_as_people_write_them():
    sheet = DataPage(users, RowQuery(), ("users",))
    row = {"birthts": -(10**11), "first_name": None, "last_name": "Ü", "img_path": "src-data/ü 1.png"}
    assert [sheet.text(row, name) for name in ("birthts", "first_name", "last_name")] == ["1966-10-31", "", "Ü"]
    assert sheet.text({"birthts": 10**18}, "birthts") == str(10**18)
    assert sheet.image(row) == "/objects/src-data/%C3%BC%201.png"

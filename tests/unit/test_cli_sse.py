"""Parsing of server-sent events."""

from hypothesis import given
from hypothesis import strategies as st

from services.cli.core.sse import EventReader, ServerEvent


def read(text, after=""):
    reader = EventReader(after)
    return [event for line in text.split("\n") if (event := reader.read(line))], reader.last_id


def test_event_has_id_type_and_joined_data():
    events, last = read("id: 7\nevent: objects.hashed.v1\ndata: a\ndata:b\n\n")
    assert events == [ServerEvent("7", "objects.hashed.v1", "a\nb")]
    assert last == "7"


def test_event_without_data_only_updates_the_last_id():
    assert read("retry: 2000\n: alive\nid: 9\n\n") == ([], "9")


def test_incomplete_event_is_dropped_and_keeps_the_last_id():
    assert read("id: 1\ndata: a\n\nid: 2\ndata: b") == ([ServerEvent("1", "", "a")], "1")
    assert read("", "5") == ([], "5")


@given(st.lists(st.text(st.characters(exclude_characters="\n\r"))))
def test_no_line_raises(lines):
    read("\n".join(lines))

"""Server-sent events, as the console reads them."""

from hypothesis import given
from hypothesis import strategies as st

from services.cli.core.sse import EventReader, ServerEvent


def read(text, after=""):
    reader = EventReader(after)
    return [event for line in text.split("\n") if (event := reader.read(line))], reader.last_id


def test_an_event_has_an_id_a_type_and_its_lines():
    events, last = read("id: 7\nevent: objects.hashed.v1\ndata: a\ndata:b\n\n")
    assert events == [ServerEvent("7", "objects.hashed.v1", "a\nb")]
    assert last == "7"


def test_a_sign_of_life_is_no_event_and_moves_the_place_to_go_on_from():
    assert read("retry: 2000\n: alive\nid: 9\n\n") == ([], "9")


def test_what_was_cut_off_is_no_event_and_is_asked_for_again():
    assert read("id: 1\ndata: a\n\nid: 2\ndata: b") == ([ServerEvent("1", "", "a")], "1")
    assert read("", "5") == ([], "5")


@given(st.lists(st.text(st.characters(exclude_characters="\n\r"))))
def test_no_line_can_make_it_fail(lines):
    read("\n".join(lines))

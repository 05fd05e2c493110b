"""What a set of files replaces."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingress.core.replacement import Manifest, ancestors, folder_prefix, overlap, set_of, staged_key
from shared.errors import Rejected

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
OLD, NEW = SINCE - timedelta(seconds=1), SINCE + timedelta(milliseconds=1)


def planned(*names, prefix="p/"):
    staged = {staged_key("s", n): name for n, name in enumerate(names)}
    return Manifest.of("s", "inbox", prefix, staged, at=SINCE, by="me")


def test_prefix_is_a_directory():
    assert folder_prefix("p") == folder_prefix("p/") == folder_prefix("/p") == folder_prefix("//p//") == "p/"
    assert folder_prefix("files/main/") == "files/main/"


@pytest.mark.parametrize(
    ("prefix", "code"),
    [
        ("", "PREFIX_EMPTY"),
        ("/", "PREFIX_EMPTY"),
        ("//", "PREFIX_EMPTY"),
        ("a//p", "KEY_UNSAFE"),
        ("/../p", "KEY_UNSAFE"),
    ],
)
def test_prefix_without_folder_is_refused(prefix, code):
    with pytest.raises(Rejected) as caught:
        folder_prefix(prefix)
    assert caught.value.code == code


def test_folders_in_names_are_preserved():
    assert list(planned("x.py", "sub/x.py").files.values()) == ["p/x.py", "p/sub/x.py"]


@pytest.mark.parametrize("names", [("x", "x"), ("x", "x/y"), ("a/b/c", "a")])
def test_files_that_would_hide_each_other_are_refused(names):
    with pytest.raises(Rejected) as caught:
        planned(*names)
    assert caught.value.code == "SAME_NAME"


def test_keys_newer_than_the_manifest_stay():
    there = {"p/x": OLD, "p/y": NEW, "p/old": OLD, "p/late": NEW, "p/same": SINCE}
    plan = planned("x", "y", "z")
    assert list(plan.files_to_copy(there, SINCE).values()) == ["p/x", "p/z"]
    assert plan.keys_to_delete(there, SINCE) == ["p/old", "p/same"]


NAMES = st.sets(st.text("abc", min_size=1, max_size=3), min_size=1)


@given(NAMES, NAMES)
def test_plan_carried_out_leaves_exactly_the_set(new, old):
    plan, there = planned(*new), {f"p/{name}": OLD for name in old}
    for key in plan.files_to_copy(there, SINCE).values():
        there[key] = NEW
    for key in plan.keys_to_delete(there, SINCE):
        del there[key]
    assert set(there) == {f"p/{name}" for name in new}
    assert not plan.files_to_copy(there, SINCE)
    assert not plan.keys_to_delete(there, SINCE)


def test_manifest_survives_its_storage():
    plan = planned("ü +x")
    assert Manifest.model_validate_json(plan.model_dump_json()) == plan


def test_prefixes_overlap_where_one_is_within_the_other():
    assert overlap("p/", "p/q/")
    assert overlap("p/q/", "p/")
    assert not overlap("p/", "pq/")


def test_ancestors_lists_every_parent_folder():
    assert ancestors("a/b/c/") == ["a", "a/b", "a/b/c"]


def test_staged_key_contains_its_set_id():
    assert set_of(staged_key("s", 3)) == "s"

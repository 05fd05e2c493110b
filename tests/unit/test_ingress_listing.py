"""What a principal sees of a bucket, and folders."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingress.core.access import Principal
from services.ingress.core.listing import folder_of, resume_after, visible_prefixes

KEYS = st.text("ab/", max_size=5)


@given(st.sets(KEYS.map(lambda key: f"inbox/{key}")), KEYS, st.lists(KEYS))
def test_visible_prefixes_cover_exactly_the_visible_keys(places, prefix, keys):
    who = Principal("1", "me", frozenset(), tuple(places))
    prefixes = visible_prefixes(who.prefixes, "inbox", prefix)
    for key in keys:
        holding = [one for one in prefixes if key.startswith(one)]
        assert len(holding) == (who.sees("inbox", key) and key.startswith(prefix)), (key, prefixes)
    assert prefixes == sorted(prefixes)


def test_prefixes_of_other_buckets_show_nothing():
    assert visible_prefixes(("other/", "inboxes/a"), "inbox", "") == []


@pytest.mark.parametrize(
    ("key", "folder"), [("p/a/b", "p/a/"), ("p/a", None), ("p//x", "p//"), ("p/a/", "p/a/"), ("p/", None)]
)
def test_key_is_in_the_folder_that_follows_the_prefix(key, folder):
    assert folder_of(key, "p/", "/") == folder
    assert folder_of(key, "p/", "") is None


def test_listing_resumes_after_a_folder():
    assert resume_after("p/a/", "p/", "/") > "p/a/zzz"
    assert resume_after("p/a/x", "p/", "/") == "p/a/x"
    assert resume_after("p/a", "p/", "/") == "p/a"

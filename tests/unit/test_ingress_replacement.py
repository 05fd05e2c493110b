"""What a set of files replaces."""

from datetime import UTC, datetime

import pytest

from services.ingress.core.replacement import Manifest, folder_prefix, set_of, staged_key
from shared.errors import Rejected

SINCE = datetime(2026, 1, 1, tzinfo=UTC)


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


def test_manifest_survives_its_storage():
    plan = planned("ü +x")
    assert Manifest.model_validate_json(plan.model_dump_json()) == plan


def test_staged_key_contains_its_set_id():
    assert set_of(staged_key("s", 3)) == "s"

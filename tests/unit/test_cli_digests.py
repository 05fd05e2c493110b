import pytest

from services.cli.core.digests import state_from_timeline, state_of


def row(status="succeeded", etag="now"):
    return {"etag": etag, "status": status}


@pytest.mark.parametrize(
    ("status", "code"), [("succeeded", 0), ("failed", 1), ("pending", 3), ("running", 3), ("superseded", 3)]
)
def test_row_of_the_stored_version_gives_the_exit_code(status, code):
    assert state_of(row(status), known_etag=None, stored_etag="now").exit_code == code


def test_overwritten_object_is_pending_despite_its_old_row():
    state = state_of(row(etag="before"), known_etag="before", stored_etag="now")
    assert (state.status, state.exit_code) == ("pending", 3)


def test_object_without_a_row_is_pending():
    assert state_of(None, known_etag=None, stored_etag="now").exit_code == 3
    assert state_of(None, known_etag="now", stored_etag=None).exit_code == 3


def test_object_that_no_source_has_is_unknown():
    assert state_of(None, known_etag=None, stored_etag=None).exit_code == 4


def test_object_of_an_output_bucket_is_never_pending():
    state = state_of(None, known_etag=None, stored_etag="now", is_input=False)
    assert state.exit_code == 4
    assert "PENSTOCK_INPUT_BUCKETS" in state.remark


def test_digests_of_a_removed_object_stay_available():
    state = state_of(row(), known_etag=None, stored_etag=None)
    assert state.exit_code == 0
    assert "removed" in state.remark


def test_gone_is_unknown_unless_the_object_exists_again():
    assert state_of(row("gone"), known_etag=None, stored_etag=None).exit_code == 4
    assert state_of(row("gone"), known_etag=None, stored_etag="now").exit_code == 3


@pytest.mark.parametrize(
    ("timeline", "code"),
    [
        (None, 4),
        ({"object": None, "digests": []}, 4),
        ({"object": {"state": "stored", "etag": "now"}, "digests": []}, 3),
        ({"object": {"state": "stored", "etag": "now"}, "digests": [row()]}, 0),
        ({"object": {"state": "stored", "etag": "now"}, "digests": [row(), row("failed", "before")]}, 0),
        ({"object": {"state": "stored", "etag": "now"}, "digests": [row(etag="before")]}, 3),
        ({"object": {"state": "removed", "etag": "now"}, "digests": [row()]}, 0),
    ],
)
def test_state_from_a_timeline_of_the_ingress(timeline, code):
    assert state_from_timeline(timeline).exit_code == code

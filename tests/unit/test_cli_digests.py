import pytest

from services.cli.core.digests import judge, judge_told


def row(status="succeeded", etag="now"):
    return {"etag": etag, "status": status}


@pytest.mark.parametrize(
    ("status", "code"), [("succeeded", 0), ("failed", 1), ("pending", 3), ("running", 3), ("superseded", 3)]
)
def test_a_row_about_the_stored_version_is_the_answer(status, code):
    assert judge(row(status), known=None, stored="now").code == code


def test_an_overwritten_object_is_pending_whatever_its_old_row_says():
    verdict = judge(row(etag="before"), known="before", stored="now")
    assert (verdict.status, verdict.code) == ("pending", 3)


def test_an_object_without_a_row_is_pending():
    assert judge(None, known=None, stored="now").code == 3
    assert judge(None, known="now", stored=None).code == 3


def test_an_object_that_nobody_has_seen_is_unknown():
    assert judge(None, known=None, stored=None).code == 4


def test_an_object_of_an_output_bucket_is_never_pending():
    verdict = judge(None, known=None, stored="now", is_input=False)
    assert verdict.code == 4
    assert "PENSTOCK_INPUT_BUCKETS" in verdict.remark


def test_the_digests_outlive_the_object():
    verdict = judge(row(), known=None, stored=None)
    assert verdict.code == 0
    assert "removed" in verdict.remark


def test_gone_is_unknown_unless_the_object_came_back():
    assert judge(row("gone"), known=None, stored=None).code == 4
    assert judge(row("gone"), known=None, stored="now").code == 3


@pytest.mark.parametrize(
    ("told", "code"),
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
def test_what_an_ingress_tells_is_weighed_like_what_the_witnesses_say(told, code):
    assert judge_told(told).code == code

import asyncio
import time

import pytest
from pydantic import SecretStr

from shared.errors import Kind, Rejected, kind_of
from shared.settings import Settings
from shared.storage import ObjectGone, ObjectRef, ObjectSuperseded
from shared.storage.credentials import CredentialCheck
from shared.storage.failures import Failure, require_credentials
from shared.storage.responses import whole_checksums

SETTINGS = Settings(
    s3_endpoint="http://store:9000", s3_access_key="penstock-hasher", s3_secret_key=SecretStr("canary-secret")
)
REF = ObjectRef("inbox", "a/b")


def meaning(status: int | None, code: str = "") -> Exception:
    return Failure("read", REF, status, code).to_error(SETTINGS)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (None, ""),
        (503, "SlowDown"),
        (500, "InternalError"),
        (507, "XMinioStorageFull"),
        (429, ""),
        (408, ""),
        (502, ""),
        (400, "RequestTimeout"),
        (403, "RequestTimeTooSkewed"),
        (403, "InvalidAccessKeyId"),
        (403, "SignatureDoesNotMatch"),
        (409, "OperationAborted"),
    ],
)
def test_transient_failure_is_an_outage_with_the_endpoint(status, code):
    found = meaning(status, code)
    assert kind_of(found) is Kind.OUTAGE
    assert SETTINGS.s3_endpoint in str(found)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "NoSuchKey", ObjectGone),
        (404, "NoSuchVersion", ObjectGone),
        (404, "", ObjectGone),
        (405, "MethodNotAllowed", ObjectGone),
        (412, "PreconditionFailed", ObjectSuperseded),
    ],
)
def test_missing_and_changed_objects_are_gone_or_superseded(status, code, kind):
    assert type(meaning(status, code)) is kind


@pytest.mark.parametrize(
    ("status", "code", "ours"),
    [
        (404, "NoSuchBucket", "NO_SUCH_BUCKET"),
        (403, "AccessDenied", "ACCESS_DENIED"),
        (401, "", "ACCESS_DENIED"),
        (400, "XMinioInvalidObjectName", "KEY_REFUSED"),
        (400, "KeyTooLongError", "KEY_REFUSED"),
        (416, "InvalidRange", "RANGE_PAST_END"),
        (400, "InvalidArgument", "S3_REFUSED"),
    ],
)
def test_permanent_failure_is_rejected_with_a_stable_code(status, code, ours):
    found = meaning(status, code)
    assert isinstance(found, Rejected)
    assert found.code == ours


@pytest.mark.parametrize("code", ["SignatureDoesNotMatch", "InvalidAccessKeyId"])
def test_refused_signature_is_rejected_if_the_credentials_work(code):
    failure = Failure("read", ObjectRef("inbox?x", "a"), 403, code)
    assert kind_of(failure.to_error(SETTINGS)) is Kind.OUTAGE
    found = failure.to_error(SETTINGS, credentials_work=True)
    assert (kind_of(found), found.code) == (Kind.REJECTED, "S3_REFUSED")


async def test_concurrent_credential_checks_share_one_request():
    asked = []

    async def ask():
        asked.append(1)
        return True

    check = CredentialCheck(ask)
    before = time.monotonic()
    assert await asyncio.gather(*(check.works(before) for _ in range(50))) == [True] * 50
    assert len(asked) == 1
    assert await check.works(time.monotonic())
    assert len(asked) == 2


def test_malformed_version_id_is_gone():
    failure = Failure("read", ObjectRef("inbox", "a", "no uuid"), 400, "InvalidArgument")
    assert isinstance(failure.to_error(SETTINGS), ObjectGone)


def test_access_denied_names_user_and_action_without_secret():
    text = str(meaning(403, "AccessDenied"))
    assert "penstock-hasher may not read s3://inbox/a/b" in text
    assert "canary-secret" not in text


def test_store_without_credentials_is_rejected():
    with pytest.raises(Rejected, match="PENSTOCK_S3_ACCESS_KEY"):
        require_credentials(Settings(s3_access_key="", s3_secret_key=SecretStr("")))


def test_object_ref_as_text_escapes_control_characters():
    assert str(ObjectRef("inbox", "a\x1b[2J\n\u202eb é")) == "s3://inbox/a\\x1b[2J\\n\\u202eb é"


def test_whole_object_checksums_are_returned_in_hex():
    answer = {
        "x-amz-checksum-sha256": "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
        "x-amz-checksum-type": "FULL_OBJECT",
    }
    assert whole_checksums(answer) == {"sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}


@pytest.mark.parametrize(
    "answer",
    [{"x-amz-checksum-type": "COMPOSITE", "x-amz-checksum-crc32": "AAAAAA=="}, {"x-amz-checksum-sha1": "eHg=-2"}],
)
def test_composite_checksums_are_skipped(answer):
    assert whole_checksums(answer) == {}

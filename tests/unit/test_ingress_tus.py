import base64
import contextlib
import hashlib
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingress.core.names import safe_key
from services.ingress.core.tus import (
    UPLOAD_ID_KEY,
    Checksum,
    ChecksumMismatch,
    UploadRequest,
    is_upload_id,
    parse_byte_count,
    parse_metadata,
)
from shared.errors import Rejected

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)


def encoded(pairs):
    return ",".join(f"{name} {base64.b64encode(text.encode()).decode()}".strip() for name, text in pairs.items())


def request(**metadata):
    return UploadRequest.of("10", encoded(metadata), 100)


@given(st.dictionaries(NAMES, st.text(max_size=50)))
def test_metadata_are_read_as_they_were_written(pairs):
    assert parse_metadata(encoded(pairs)) == pairs


@given(st.text(max_size=200))
def test_any_header_is_read_or_refused_with_a_reason(header):
    for read in (parse_metadata, Checksum.of, lambda text: parse_byte_count(text, "Upload-Length", "BAD_LENGTH")):
        with contextlib.suppress(Rejected):
            read(header)


@pytest.mark.parametrize("header", ["a !", "a YQ==,a YQ==", ",", "a YQ", "ü YQ==", "a gIA=", " ,a"])
def test_malformed_metadata_is_refused(header):
    with pytest.raises(Rejected) as refused:
        parse_metadata(header)
    assert refused.value.code == "BAD_METADATA"


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", "1e3", "٣", "0x10", " 1", "9" * 20])
def test_number_of_bytes_is_plain_digits(text):
    with pytest.raises(Rejected, match="as a number"):
        parse_byte_count(text, "Upload-Length", "BAD_LENGTH")


@pytest.mark.parametrize("algorithm", ["sha1", "md5", "sha256"])
def test_checksum_accepts_right_bytes_and_refuses_wrong_ones(algorithm):
    digest = hashlib.new(algorithm, b"bytes").digest()
    checksum = Checksum.of(f"{algorithm} {base64.b64encode(digest).decode()}")
    checksum.verify(b"bytes")
    with pytest.raises(ChecksumMismatch) as mismatch:
        checksum.verify(b"other")
    assert mismatch.value.document()["status"] == 460


def test_upload_ids_are_unguessable():
    ids = {request().id for _ in range(100)}
    assert len(ids) == 100
    assert all(is_upload_id(one) for one in ids)
    assert not is_upload_id("../" + "0" * 29)


@given(st.text(max_size=60))
def test_key_is_safe_or_refused(name):
    try:
        key = request(filename=name).key
    except Rejected:
        return
    assert safe_key(key) == key
    assert key.startswith("tus/")


def test_requested_key_wins_over_the_file_name():
    assert request(key="a/b.txt", filename="c").key == "a/b.txt"
    one = request(filename="ü b.txt")
    assert one.key == f"tus/{one.id}/ü b.txt"


def test_storable_metadata_is_stored_with_the_object():
    one = request(filename="a", filetype="text/plain; charset=utf-8", Origin="here", odd="ü", empty="")
    assert one.headers() == {
        "content-type": "text/plain; charset=utf-8",
        "x-amz-meta-origin": "here",
        "x-amz-meta-odd": "ü",
        "x-amz-meta-empty": "",
        f"x-amz-meta-{UPLOAD_ID_KEY}": one.id,
    }


def test_metadata_with_control_characters_is_refused():
    with pytest.raises(Rejected, match="control character"):
        request(line="a\nb").headers()


def test_client_cannot_set_reserved_metadata():
    one = request(**{UPLOAD_ID_KEY.title(): "0" * 32})
    assert one.headers() == {f"x-amz-meta-{UPLOAD_ID_KEY}": one.id}


@pytest.mark.parametrize("kind", ["text", "text/plain\r\nx: y", "ü/x", ""])
def test_invalid_type_is_left_out(kind):
    assert "content-type" not in request(filetype=kind).headers()


def test_metadata_beyond_the_s3_limit_is_refused():
    with pytest.raises(Rejected, match="shorten"):
        request(long="x" * 2048).headers()


def test_upload_beyond_the_size_limit_is_refused():
    with pytest.raises(Rejected) as refused:
        UploadRequest.of("101", "", 100)
    assert refused.value.code == "TOO_LARGE"


@pytest.mark.parametrize(("ttl", "expired"), [(timedelta(0), True), (timedelta(hours=1), False)])
def test_upload_expires(ttl, expired):
    upload = request().to_upload("inbox", "a", owner="root", by="root", ttl=ttl)
    assert upload.is_expired() is expired
    assert type(upload).model_validate_json(upload.model_dump_json()) == upload


def test_description_that_the_previous_version_stored_is_read():
    upload = request(a="b").to_upload("inbox", "a", owner="root", by="root", ttl=timedelta(hours=1))
    stored = upload.model_dump_json().replace('"metadata_header"', '"told"')
    assert '"told"' in stored
    assert type(upload).model_validate_json(stored) == upload

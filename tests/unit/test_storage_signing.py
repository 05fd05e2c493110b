from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from shared.storage.signing import Signer, path_of, query_of

HOST = "127.0.0.1:9000"
SIGNER = Signer("user", SecretStr("secret"), "us-east-1")
keys = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\x00"), min_size=1, max_size=80)


@given(key=keys, etag=st.text("0123456789abcdef", min_size=1, max_size=32))
def test_signature_equals_that_of_botocore(key, etag):
    path, query = path_of("inbox", key), query_of({"versionId": key})
    ours = Signer("user", SecretStr("secret"), "us-east-1").sign("GET", HOST, path, query, {"if-match": f'"{etag}"'})
    request = AWSRequest("GET", f"http://{HOST}{path}?{query}", headers={"if-match": f'"{etag}"'})
    request.context["timestamp"] = ours["x-amz-date"]
    auth = S3SigV4Auth(Credentials("user", "secret"), "s3", "us-east-1")
    request.headers["X-Amz-Date"] = ours["x-amz-date"]
    request.headers["x-amz-content-sha256"] = ours["x-amz-content-sha256"]
    text = auth.string_to_sign(request, auth.canonical_request(request))
    assert ours["authorization"].endswith(f"Signature={auth.signature(text, request)}")


@given(key=keys, size=st.integers(1, 5 << 30))
def test_presigned_url_equals_that_of_botocore_over_host_and_length(key, size):
    query, headers = {"partNumber": "1", "uploadId": key}, {"content-length": str(size)}
    ours = SIGNER.presign("PUT", f"http://{HOST}/", path_of("inbox", key), query, headers=headers, seconds=900)
    said = {name: values[0] for name, values in parse_qs(urlsplit(ours).query, keep_blank_values=True).items()}
    assert said["X-Amz-SignedHeaders"] == "content-length;host"
    unsigned = ours.partition("&X-Amz-Signature=")[0]
    request = AWSRequest("PUT", unsigned, headers=headers)
    request.context["timestamp"] = said["X-Amz-Date"]
    auth = S3SigV4QueryAuth(Credentials("user", "secret"), "s3", "us-east-1")
    text = auth.string_to_sign(request, auth.canonical_request(request))
    assert said["X-Amz-Signature"] == auth.signature(text, request)


def test_the_signing_key_follows_the_day():
    signer = Signer("user", SecretStr("secret"), "us-east-1")
    first = signer.sign("GET", HOST, "/inbox/k", "", {})
    assert first["x-amz-date"][:8] == datetime.now(UTC).strftime("%Y%m%d")
    assert signer._day == first["x-amz-date"][:8]


def test_the_secret_is_not_in_the_headers():
    headers = Signer("user", SecretStr("canary"), "us-east-1").sign("GET", HOST, "/inbox/k", "", {})
    assert "canary" not in str(headers)


@pytest.mark.parametrize(
    ("key", "path"), [("a b", "/b/a%20b"), ("a+b", "/b/a%2Bb"), ("../x", "/b/../x"), ("é", "/b/%C3%A9"), ("", "/b")]
)
def test_path_escapes_reserved_bytes_without_normalizing(key, path):
    assert path_of("b", key) == path

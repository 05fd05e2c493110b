"""What the holder of an address for one part can do beyond that part: nothing, whatever the signature leaves open."""

import base64
import json
import zlib
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import pytest
from pydantic import SecretStr

from services.ingress.adapters.multipart_uploads import SIGNED_SECONDS
from shared.storage import signing
from tests.support import ingress

pytestmark = pytest.mark.integration

BODY = b"the bytes of the part"
SECRET = b"of another team"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
UNSIGNED_HEADERS = {
    "x-amz-acl": "public-read",
    "x-amz-tagging": "a=b",
    "x-amz-object-lock-mode": "GOVERNANCE",
    "x-amz-object-lock-retain-until-date": "2099-01-01T00:00:00Z",
    "x-amz-object-lock-legal-hold": "ON",
    "x-amz-server-side-encryption": "AES256",
    "x-amz-storage-class": "REDUCED_REDUNDANCY",
    "x-amz-website-redirect-location": "https://example.com/",
    "x-amz-bypass-governance-retention": "true",
    "x-amz-decoded-content-length": "1",
    "x-amz-mp-object-size": "1",
    "x-http-method-override": "DELETE",
    "x-minio-force-delete": "true",
    "x-minio-extract": "true",
    "x-minio-source-replication-request": "true",
    "x-minio-source-mtime": "2020-01-01T00:00:00Z",
    "x-minio-source-etag": "00000000000000000000000000000000",
    "content-type": "text/html",
    "content-encoding": "aws-chunked",
    "cache-control": "public",
    "if-none-match": "*",
}


@pytest.fixture
def root(system):
    ingress.serve(system)
    with ingress.client(system) as client:
        yield client


@pytest.fixture
def confined(system, root):
    """A client that may write below `<prefix>ten-a/` alone."""
    prefix = f"inbox/{system.prefix}ten-a/"
    answer = root.post("/tokens", json={"name": system.prefix.strip("/"), "scopes": ["write"], "places": [prefix]})
    with ingress.client(system, answer.json()["token"]) as client:
        yield client


def begun(client, system, body=BODY):
    answer = client.post("/multipart", json={"key": f"{system.prefix}ten-a/large.bin", "size": len(body)})
    assert answer.status_code == 201, answer.text
    return answer.json()


def address(client, upload, number=1):
    answer = client.post(f"/multipart/{upload['id']}/sign", json={"numbers": [number]})
    assert answer.status_code == 200, answer.text
    return answer.json()["urls"][str(number)]


def query(url):
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def send(url, body=BODY, **headers):
    return httpx.put(url, content=body, headers={name.replace("_", "-"): text for name, text in headers.items()})


def sent(client, upload):
    return client.get(f"/multipart/{upload['id']}").json()["sent"]


def in_chunks(data):
    checksum = base64.b64encode(zlib.crc32(data).to_bytes(4, "big"))
    return b"%x\r\n%b\r\n0\r\nx-amz-checksum-crc32:%b\r\n\r\n" % (len(data), data, checksum)


@pytest.mark.parametrize("elsewhere", ["inbox/{}ten-b/secret", "results/{}secret", "uploads/{}secret"])
def test_address_copies_no_object_into_its_part(system, confined, elsewhere):
    bucket, _, key = elsewhere.format(system.prefix).partition("/")
    system.s3.put_object(Bucket=bucket, Key=key, Body=SECRET)
    upload = begun(confined, system, SECRET)
    for source in (f"/{bucket}/{key}", f"{bucket}/{key}", f"{bucket}%2F{key}"):
        for ranged in ({}, {"x_amz_copy_source_range": "bytes=0-1"}):
            for body in (b"", SECRET):
                answer = send(address(confined, upload), body, x_amz_copy_source=source, **ranged)
                assert answer.status_code >= 400, answer.text
    assert sent(confined, upload) == []


@pytest.mark.parametrize("body", [BODY + b"!", BODY[:-1], b"", BODY * 10])
def test_address_takes_no_part_of_another_length(system, confined, body):
    upload = begun(confined, system)
    assert send(address(confined, upload), body).status_code == 403
    assert send(address(confined, upload), iter([body])).status_code == 411
    assert sent(confined, upload) == []
    assert send(address(confined, upload)).status_code == 200


def test_headers_beyond_the_signature_change_nothing_but_the_part(system, confined):
    upload = begun(confined, system)
    for name, text in UNSIGNED_HEADERS.items():
        answer = httpx.put(address(confined, upload), content=BODY, headers={name: text})
        assert answer.status_code in {200, 400, 403, 501}, f"{name}: {answer.text}"
    assert sent(confined, upload) == [{"number": 1, "size": len(BODY)}]
    assert confined.post(f"/multipart/{upload['id']}/complete").status_code == 200
    where = {"Bucket": "inbox", "Key": upload["key"]}
    stored = system.s3.head_object(**where)
    odd = {"ServerSideEncryption", "ObjectLockMode", "WebsiteRedirectLocation", "StorageClass", "CacheControl"}
    assert not odd & set(stored)
    assert (stored["ContentType"], stored.get("ContentEncoding", "")) == ("application/octet-stream", "")
    assert set(stored["Metadata"]) == {"penstock-owner", "penstock-upload"}
    assert system.s3.get_object_tagging(**where)["TagSet"] == []


@pytest.mark.parametrize("header", ["x-amz-meta-owner", "x-amz-meta-snowball-auto-extract"])
def test_metadata_that_was_not_signed_is_refused(system, confined, header):
    upload = begun(confined, system)
    assert httpx.put(address(confined, upload), content=BODY, headers={header: "true"}).status_code == 400
    assert sent(confined, upload) == []


@pytest.mark.parametrize("more", ["&acl", "&tagging=", "&versionId=x", "&partNumber=2", "&x-amz-copy-source=x"])
def test_parameters_beyond_the_signature_are_refused(system, confined, more):
    upload = begun(confined, system)
    url = address(confined, upload)
    assert send(url + more).status_code >= 400
    assert send(url.replace("?", f"?{more[1:]}&")).status_code >= 400
    assert sent(confined, upload) == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "POST"])
def test_address_is_for_its_method_alone(system, confined, method):
    assert httpx.request(method, address(confined, begun(confined, system))).status_code == 403


@pytest.mark.parametrize("mode", [UNSIGNED_TRAILER, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"])
def test_streamed_body_loosens_neither_length_nor_key(system, confined, mode):
    upload, body = begun(confined, system), in_chunks(BODY)
    url = address(confined, upload)
    headers = {
        "x-amz-content-sha256": mode,
        "x-amz-trailer": "x-amz-checksum-crc32",
        "x-amz-decoded-content-length": str(len(BODY)),
    }
    foreign = f"{system.stack.env['PENSTOCK_S3_ENDPOINT']}/inbox/{system.prefix}ten-b/forged?{urlsplit(url).query}"
    for target in (url, foreign):
        assert httpx.put(target, content=body, headers=headers).status_code in {400, 403}
    assert sent(confined, upload) == []
    assert system.s3.list_objects_v2(Bucket="inbox", Prefix=f"{system.prefix}ten-b/")["KeyCount"] == 0


@pytest.mark.parametrize("user", ["operator", "penstock-ingress", "penstock-parts"])
def test_store_takes_no_unsigned_upload_in_the_name_of_a_user(system, user):
    env = system.stack.env
    name = env["PENSTOCK_S3_ACCESS_KEY"] if user == "operator" else user
    credential = f"{name}/{datetime.now(UTC):%Y%m%d}/us-east-1/s3/aws4_request"
    headers = {
        "x-amz-content-sha256": UNSIGNED_TRAILER,
        "x-amz-trailer": "x-amz-checksum-crc32",
        "x-amz-decoded-content-length": str(len(BODY)),
    }
    target = f"{env['PENSTOCK_S3_ENDPOINT']}/inbox/{system.prefix}forged"
    url = f"{target}?X-Amz-Credential={quote(credential, safe='')}"
    by_query = httpx.put(url, content=in_chunks(BODY), headers=headers)
    signed = f"Credential={credential}, SignedHeaders=host;x-amz-date, Signature={'0' * 64}"
    forged = {
        "x-amz-meta-snowball-auto-extract": "true",
        "x-amz-date": f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}",
        "authorization": f"AWS4-HMAC-SHA256 {signed}",
    }
    by_archive = httpx.put(f"{target}.tar", content=bytes(10240), headers={**headers, **forged})
    assert by_query.status_code in {400, 403}
    assert by_archive.status_code in {400, 403}
    assert system.s3.list_objects_v2(Bucket="inbox", Prefix=system.prefix)["KeyCount"] == 0


def test_address_ends_with_its_life(system, confined, monkeypatch):
    upload = begun(confined, system)
    url = address(confined, upload)
    params = query(url)
    assert (params["X-Amz-Expires"], params["X-Amz-SignedHeaders"]) == (str(SIGNED_SECONDS), "content-length;host")
    assert params["X-Amz-Credential"].split("/")[0] == "penstock-parts"
    assert SIGNED_SECONDS <= 15 * 60

    def signed(age):
        then = datetime.now(UTC) - timedelta(seconds=age)
        monkeypatch.setattr(signing, "datetime", type("Then", (), {"now": staticmethod(lambda _zone: then)}))
        secret = SecretStr(system.stack.env["PENSTOCK_S3_SECRET_KEY_PARTS"])
        return signing.Signer("penstock-parts", secret, "us-east-1").presign(
            "PUT",
            system.stack.env["PENSTOCK_S3_ENDPOINT"],
            urlsplit(url).path,
            {"partNumber": "1", "uploadId": params["uploadId"]},
            headers={"content-length": str(len(BODY))},
            seconds=SIGNED_SECONDS,
        )

    assert send(signed(SIGNED_SECONDS + 2)).status_code == 403
    assert send(url.replace(f"X-Amz-Expires={SIGNED_SECONDS}", "X-Amz-Expires=604800")).status_code == 403
    assert sent(confined, upload) == []
    assert send(signed(SIGNED_SECONDS - 60)).status_code == 200


@pytest.mark.parametrize("end", ["complete", "give up"])
def test_address_ends_with_its_upload(system, confined, end):
    upload = begun(confined, system)
    url = address(confined, upload)
    assert send(url).status_code == 200
    if end == "complete":
        assert confined.post(f"/multipart/{upload['id']}/complete").status_code == 200
    else:
        assert confined.delete(f"/multipart/{upload['id']}").status_code == 204
    assert send(url, bytes(len(BODY))).status_code == 404
    assert system.s3.list_multipart_uploads(Bucket="inbox", Prefix=upload["key"]).get("Uploads", []) == []
    if end == "complete":
        assert system.s3.get_object(Bucket="inbox", Key=upload["key"])["Body"].read() == BODY


def test_user_that_signs_addresses_writes_and_does_nothing_else(system):
    env = system.stack.env
    system.put("mine", SECRET)
    key = system.prefix + "mine"
    signer = signing.Signer("penstock-parts", SecretStr(env["PENSTOCK_S3_SECRET_KEY_PARTS"]), "us-east-1")

    def ask(method, path, **parameters):
        url = signer.presign(method, env["PENSTOCK_S3_ENDPOINT"], path, parameters, headers={}, seconds=60)
        return httpx.request(method, url).status_code

    objects = [signing.path_of(bucket, key) for bucket in ("inbox", "results", "uploads")]
    assert [ask(method, path) for path in objects for method in ("GET", "HEAD", "DELETE")] == [403] * 9
    assert [ask("PUT", path) for path in objects[1:]] == [403] * 2
    listings = [{"list-type": "2"}, {"uploads": ""}, {"notification": ""}, {"policy": ""}]
    assert [ask("GET", "/inbox", **one) for one in listings] == [403] * 4
    assert [ask("GET", objects[0], **one) for one in ({"tagging": ""}, {"uploadId": "x"})] == [403] * 2
    assert [ask("PUT", objects[0], acl=""), ask("PUT", "/a-new-bucket")] == [403] * 2
    assert system.s3.get_object(Bucket="inbox", Key=key)["Body"].read() == SECRET


def test_secret_of_the_signing_user_reaches_the_ingress_alone(system):
    ingress.serve(system)
    secret = system.stack.env["PENSTOCK_S3_SECRET_KEY_PARTS"]
    given = {name: secret in json.dumps(dict(one.program.env)) for name, one in system.stack.processes.items()}
    assert [name for name, has in given.items() if has] == ["ingress"]

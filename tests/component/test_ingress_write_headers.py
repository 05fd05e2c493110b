"""Headers that change a write: each is honored or refused, whichever way an object comes in."""

import base64
import hashlib

import pytest

from shared.errors import Rejected
from shared.storage import ObjectRef
from shared.storage.multipart import MIN_PART_BYTES
from tests.fakes.ingress import Ingress, settings

OLD, NEW = b"0123456789", b"6789"
ETAG = hashlib.md5(OLD, usedforsecurity=False).hexdigest()
LIMIT = 100
BOUNDARY = "a-boundary"
KIND = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
ROUTES = ["objects", "files", "uploadfile", "set"]


def part(name, body, filename=None, **headers):
    filename_part = "" if filename is None else f'; filename="{filename}"'
    said = "".join(f"{key.replace('_', '-')}: {value}\r\n" for key, value in headers.items())
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{filename_part}\r\n{said}\r\n'
    return head.encode() + body + b"\r\n"


def form(*parts):
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


async def pieces(body):
    for at in range(0, len(body), 7):
        yield body[at : at + 7]


def request_of(route, body, **headers):
    """Return method, path, headers and body of a request that stores `body` by a door, and the key it gets."""
    said = {name.replace("_", "-"): value for name, value in headers.items()}
    if route == "objects":
        return "PUT", "/objects/inbox/files/a", said, body
    if route == "set":
        whole = form(part("keys_prefix", b"files/"), part("files", body, "a"))
        return "PUT", "/files/upload_minio", {**KIND, "bucket": "inbox", **said}, whole
    return "POST", f"/{route}/", {**KIND, **said}, form(part("file", body, "a"))


async def send(client, route, body, *, chunked=False, **headers):
    method, path, said, whole = request_of(route, body, **headers)
    return await client.request(method, path, headers=said, content=pieces(whole) if chunked else whole)


async def stored(ingress, *buckets):
    found = {}
    for bucket in buckets or ("inbox", "uploads"):
        async for page in ingress.store.list(bucket):
            for one in page:
                found[one.ref.key] = (await ingress.store.read(ObjectRef(bucket, one.ref.key)))[1]
    return found


async def old(ingress):
    await ingress.store.put(ObjectRef("inbox", "files/a"), OLD)


REFUSED = [
    {"content-range": "bytes 6-9/10"},
    {"range": "bytes=6-9"},
    {"x-amz-write-offset-bytes": "6"},
    {"x-amz-copy-source": "/inbox/b"},
    {"x-amz-tagging": "a=b"},
    {"x-amz-acl": "public-read"},
    {"x-amz-grant-read": "id=1"},
    {"x-amz-object-lock-mode": "GOVERNANCE"},
    {"x-amz-object-lock-legal-hold": "ON"},
    {"x-amz-server-side-encryption": "AES256"},
    {"x-amz-server-side-encryption-customer-algorithm": "AES256"},
    {"x-amz-storage-class": "GLACIER"},
    {"x-amz-website-redirect-location": "/x"},
    {"x-amz-trailer": "x-amz-checksum-crc32"},
    {"x-amz-decoded-content-length": "4"},
    {"x-amz-bypass-governance-retention": "true"},
    {"x-amz-whatever-comes-next": "1"},
    {"content-encoding": "aws-chunked"},
    {"content-encoding": "gzip,aws-chunked"},
    {"trailer": "x-amz-checksum-crc32"},
    {"x-http-method-override": "DELETE"},
    {"x-method-override": "PATCH"},
    {"upload-complete": "?0"},
    {"upload-concat": "partial"},
    {"upload-offset": "6"},
    {"overwrite": "F"},
    {"lock-token": "<x>"},
    {"content-transfer-encoding": "base64"},
    {"if-modified-since": "Sat, 29 Oct 1994 19:43:31 GMT"},
    {"transfer-encoding": "gzip, chunked"},
]


@pytest.mark.parametrize("route", ROUTES)
async def test_unhonored_header_is_refused_and_replaces_nothing(ingress, client, route):
    await old(ingress)
    for headers in REFUSED:
        answer = await send(client, route, NEW, **headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "HEADER_REFUSED"), (headers, answer.text)
        assert max(headers, key=len).lower() in answer.json()["detail"].lower()
    assert await stored(ingress) == {"files/a": OLD}


async def test_removal_refuses_the_same_headers(ingress, client):
    await old(ingress)
    for headers in REFUSED[:-1]:
        answer = await client.delete("/objects/inbox/files/a", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "HEADER_REFUSED"), (headers, answer.text)
    assert await stored(ingress) == {"files/a": OLD}


async def test_expectation_that_is_unknown_is_refused(client):
    answer = await send(client, "objects", NEW, expect="200-maybe")
    assert (answer.status_code, answer.json()["code"]) == (417, "EXPECTATION_FAILED")
    assert (await send(client, "objects", NEW, expect="100-continue")).status_code == 201


HARMLESS = [
    {"x-amz-acl": "private"},
    {"x-amz-storage-class": "STANDARD"},
    {"x-amz-content-sha256": "UNSIGNED-PAYLOAD"},
    {"content-encoding": "identity"},
    {"x-amz-date": "20260101T000000Z"},
    {"want-repr-digest": "sha-256=1"},
]


@pytest.mark.parametrize("route", ROUTES)
async def test_header_requesting_the_default_is_accepted(client, route):
    for headers in HARMLESS:
        answer = await send(client, route, NEW, **headers)
        assert answer.is_success, (headers, answer.text)


async def test_parameter_by_which_s3_means_something_else_is_refused(ingress, client):
    await old(ingress)
    for parameters in ("partNumber=1&uploadId=x", "versionId=v1", "uploads", "tagging", "append"):
        for method in ("PUT", "DELETE"):
            answer = await client.request(method, f"/objects/inbox/files/a?{parameters}=", content=NEW)
            assert (answer.status_code, answer.json()["code"]) == (400, "PARAMETER_REFUSED")
    assert await stored(ingress) == {"files/a": OLD}


CONDITIONS = [
    ({"if-match": f'"{ETAG}"'}, True, True),
    ({"if-match": ETAG}, True, True),
    ({"if-match": f'"x", "{ETAG}"'}, True, True),
    ({"if-match": "*"}, True, True),
    ({"if-match": '"nope"'}, True, False),
    ({"if-match": f'W/"{ETAG}"'}, True, False),
    ({"if-match": f'"{ETAG}"'}, False, False),
    ({"if-match": "*"}, False, False),
    ({"if-none-match": "*"}, False, True),
    ({"if-none-match": "*"}, True, False),
    ({"if-none-match": '"nope"'}, True, True),
    ({"if-none-match": f'W/"x", W/"{ETAG}"'}, True, False),
    ({"if-unmodified-since": "Sat, 29 Oct 1994 19:43:31 GMT"}, True, False),
    ({"if-unmodified-since": "Fri, 31 Dec 2100 23:59:59 GMT"}, True, True),
]


@pytest.mark.parametrize("route", ["objects", "files"])
@pytest.mark.parametrize("chunked", [False, True])
async def test_conditional_write_is_made_or_refused(ingress, client, route, chunked):
    for condition, is_there, holds in CONDITIONS:
        await (old(ingress) if is_there else ingress.store.delete(ObjectRef("inbox", "files/a")))
        answer = await send(client, route, NEW, chunked=chunked, **condition)
        assert answer.status_code == ({"objects": 201, "files": 202}[route] if holds else 412), condition
        assert holds or answer.json()["code"] == "SUPERSEDED"
        assert await stored(ingress) == ({"files/a": NEW} if holds else {"files/a": OLD} if is_there else {})


async def test_conditional_removal_is_made_or_refused(ingress, client):
    for condition, is_there, holds in CONDITIONS:
        await (old(ingress) if is_there else ingress.store.delete(ObjectRef("inbox", "files/a")))
        answer = await client.delete("/objects/inbox/files/a", headers=condition)
        assert answer.status_code == (412 if not holds else 204 if is_there else 404), condition
        assert await stored(ingress) == ({"files/a": OLD} if is_there and not holds else {})


@pytest.mark.parametrize(("condition", "status"), [({"if-match": "*"}, 412), ({"if-none-match": "*"}, 200)])
async def test_upload_by_id_with_condition_is_checked(client, condition, status):
    assert (await send(client, "uploadfile", NEW, **condition)).status_code == status


@pytest.mark.parametrize("header", ["if-match", "if-none-match", "if-unmodified-since"])
async def test_set_with_condition_is_refused(ingress, client, header):
    await old(ingress)
    answer = await send(client, "set", NEW, **{header: "*"})
    assert (answer.status_code, answer.json()["code"]) == (400, "HEADER_REFUSED")
    assert await stored(ingress) == {"files/a": OLD}


@pytest.mark.parametrize("route", ["objects", "files"])
@pytest.mark.parametrize(("condition", "is_there"), [("*", False), ("*", True), (f'"{ETAG}"', True)])
async def test_object_stored_during_the_upload_is_not_replaced(ingress, client, route, condition, is_there):
    """The store itself compares, in the moment in which it would replace."""
    header = "if-match" if is_there else "if-none-match"
    if is_there:
        await old(ingress)
    write = ingress.store.write

    def racing(ref, **options):
        ingress.store.write = write
        inner = write(ref, **options)

        class Racing:
            async def __aenter__(self):
                writer = await inner.__aenter__()
                if condition == "*" and is_there:
                    await ingress.store.delete(ref)
                else:
                    await ingress.store.put(ref, b"of another")
                return writer

            async def __aexit__(self, *error):
                return await inner.__aexit__(*error)

        return Racing()

    ingress.store.write = racing
    answer = await send(client, route, NEW, **{header: condition})
    assert (answer.status_code, answer.json()["code"]) == (412, "SUPERSEDED")
    assert await stored(ingress) == ({} if condition == "*" and is_there else {"files/a": b"of another"})


def b64(algorithm, body):
    return base64.b64encode(hashlib.new(algorithm, body).digest()).decode()


CHECKED = [
    ("content-md5", lambda body: b64("md5", body)),
    ("content-digest", lambda body: f"sha-256=:{b64('sha256', body)}:"),
    ("repr-digest", lambda body: f"sha-512=:{b64('sha512', body)}:"),
    ("digest", lambda body: f"SHA-256={b64('sha256', body)}"),
    ("x-amz-content-sha256", lambda body: hashlib.sha256(body).hexdigest()),
]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("chunked", [False, True])
async def test_body_is_compared_with_its_checksum(ingress, client, route, chunked):
    for header, text in CHECKED:
        await compare(ingress, client, route, header, text, chunked)


async def compare(ingress, client, route, header, text, chunked):  # noqa: PLR0913, PLR0917 - what a body comes with
    await old(ingress)
    before, whole = await stored(ingress), request_of(route, NEW)[3]
    wrong = await send(client, route, NEW, chunked=chunked, **{header: text(b"something else")})
    assert (wrong.status_code, wrong.json()["code"]) == (400, "CHECKSUM_MISMATCH")
    assert header in wrong.json()["detail"]
    assert wrong.json()["found"] in wrong.json()["detail"]
    malformed = await send(client, route, NEW, **{header: "nonsense"})
    assert (malformed.status_code, malformed.json()["code"]) == (400, "BAD_CHECKSUM")
    assert await stored(ingress) == before
    assert (await send(client, route, NEW, chunked=chunked, **{header: text(whole)})).is_success


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
@pytest.mark.parametrize("route", ["objects", "files", "uploadfile"])
async def test_object_is_compared_with_the_checksum_of_s3(ingress, client, route, algorithm):
    header = f"x-amz-checksum-{algorithm}"
    wrong = await send(client, route, NEW, **{header: b64(algorithm, b"something else")})
    assert (wrong.status_code, wrong.json()["code"]) == (400, "CHECKSUM_MISMATCH")
    assert await stored(ingress) == {}
    assert (await send(client, route, NEW, **{header: b64(algorithm, NEW)})).is_success


async def test_set_with_object_checksum_is_refused(client):
    answer = await send(client, "set", NEW, **{"x-amz-checksum-sha256": b64("sha256", NEW)})
    assert (answer.status_code, answer.json()["code"]) == (400, "HEADER_REFUSED")


async def test_large_body_with_wrong_checksum_stores_nothing(ingress, client):
    answer = await send(client, "objects", bytes(2 * MIN_PART_BYTES), **{"content-md5": b64("md5", b"")})
    assert answer.status_code == 400
    assert await stored(ingress) == {}


@pytest.mark.parametrize(
    ("headers", "is_word"),
    [({}, False), ({"content-md5": b64("md5", NEW)}, True), ({"x-amz-checksum-sha1": b64("sha1", NEW)}, True)],
)
async def test_store_checksum_exists_only_for_client_checksums(ingress, client, headers, is_word):
    """The hasher calls `verified` what agrees with such a checksum; one of the ingress would vouch for nothing."""
    await send(client, "objects", NEW, **headers)
    assert bool((await ingress.store.head(ObjectRef("inbox", "files/a"))).checksums) is is_word


KEPT = {
    "cache-control": "max-age=60",
    "content-encoding": "gzip",
    "content-language": "de, en",
    "content-disposition": 'attachment; filename="report.csv"',
    "expires": "Fri, 31 Dec 2100 23:59:59 GMT",
}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_object_headers_are_stored_and_returned(client, method):
    assert (await send(client, "objects", NEW, **KEPT, **{"content-type": "text/csv"})).status_code == 201
    async with client.stream(method, "/objects/inbox/files/a") as answer:
        assert {name: answer.headers[name] for name in KEPT} == KEPT
        assert answer.headers["content-type"] == "text/csv"
        assert answer.headers["vary"] == "authorization, cookie"
    again = await client.get("/objects/inbox/files/a", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.headers["cache-control"]) == (304, "max-age=60")


async def test_inline_disposition_is_sent_as_attachment(client):
    headers = {"content-disposition": 'inline; filename="a.html"', "content-type": "text/html"}
    await send(client, "objects", b"<script>", **headers)
    answer = await client.get("/objects/inbox/files/a")
    assert answer.headers["content-disposition"] == 'attachment; filename="a.html"'
    assert answer.headers["content-type"] == "application/octet-stream"
    assert "sandbox" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("name", sorted(KEPT))
async def test_invalid_object_header_is_refused(ingress, client, name):
    for value in ("ü".encode(), b"x" * 3000):
        answer = await client.put("/objects/inbox/files/a", content=NEW, headers={name: value})
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_HEADER")
    assert await stored(ingress) == {}


@pytest.mark.parametrize("route", ["files", "set"])
async def test_headers_of_a_part_describe_its_file(ingress, client, route):
    field = "file" if route == "files" else "files"
    said = {"Content_Encoding": "gzip", "Content_Language": "de", "Content_MD5": b64("md5", NEW), "x_amz_meta_a": "b"}
    body = form(part("keys_prefix", b"files/"), part(field, NEW, "a", **said))
    method, path, headers, _ = request_of(route, NEW)
    assert (await client.request(method, path, headers=headers, content=body)).is_success
    info = await ingress.store.head(ObjectRef("inbox", "files/a"))
    assert (info.headers, info.metadata) == ({"content-encoding": "gzip", "content-language": "de"}, {"a": "b"})
    assert info.checksums


@pytest.mark.parametrize("route", ["files", "set"])
@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"Content_Range": "bytes 0-3/10"}, "HEADER_REFUSED"),
        ({"Content_Transfer_Encoding": "base64"}, "HEADER_REFUSED"),
        ({"Content_MD5": b64("md5", b"x")}, "CHECKSUM_MISMATCH"),
        ({"Content_MD5": "x"}, "BAD_CHECKSUM"),
        ({"x_amz_meta_penstock_owner": "me"}, "METADATA_RESERVED"),
    ],
)
async def test_part_of_a_form_is_held_to_its_headers(ingress, client, route, said, code):
    body = form(part("keys_prefix", b"files/"), part("file" if route == "files" else "files", NEW, "a", **said))
    method, path, headers, _ = request_of(route, NEW)
    answer = await client.request(method, path, headers=headers, content=body)
    assert answer.json()["code"] == code
    assert await stored(ingress) == {}


async def test_fields_before_a_file_describe_it_and_those_behind_are_refused(ingress, client):
    field = part("x-amz-meta-title", "Größe".encode())
    answer = await client.post("/files/", headers=KIND, content=form(field, part("file", NEW, "a")))
    assert answer.status_code == 202
    assert (await ingress.store.head(ObjectRef("inbox", "files/a"))).metadata == {"title": "Größe"}
    late = await client.post("/files/", headers=KIND, content=form(part("file", NEW, "b"), field))
    assert (late.status_code, late.json()["code"]) == (400, "LATE_FIELD")
    assert list(await stored(ingress)) == ["files/a"]


METADATA = [
    ("plain", "plain"),
    ("Größe", "Größe"),
    ("日本 🐋", "日本 🐋"),
    ("=?UTF-8?B?R3LDtsOfZQ==?=", "Größe"),
    ("=?iso-8859-1?Q?Gr=F6=DFe?=", "Größe"),
    ("=?utf-8?Q?a=0D=0Ax:_y?=", "=?utf-8?Q?a=0D=0Ax:_y?="),
    ("", ""),
]


@pytest.mark.parametrize("route", ["objects", "files", "uploadfile"])
async def test_metadata_are_utf8_in_and_out(ingress, client, route):
    for sent, stored_title in METADATA:
        answer = await send(client, route, NEW, **{"x-amz-meta-Title": sent.encode()})
        key = answer.json().get("key", "files/a")
        assert (await ingress.store.head(ObjectRef("inbox", key))).metadata["title"] == stored_title
        got = dict((await client.get(f"/objects/inbox/{key}")).headers.raw)
        assert got[b"x-amz-meta-title"].decode() == stored_title
        assert b"x-amz-meta-penstock-owner" not in got


@pytest.mark.parametrize("route", ROUTES)
async def test_chunked_body_is_limited_while_it_arrives(route):
    ingress = Ingress(settings(max_upload_bytes=1 << 10))
    async with ingress.client() as client:
        assert (await send(client, route, b"x" * 700, chunked=True)).is_success
        before = await stored(ingress)
        assert list(before.values()) == [b"x" * 700]
        answer = await send(client, route, b"y" * 1100, chunked=True)
        assert (answer.status_code, answer.json()["code"]) == (413, "TOO_LARGE")
    assert await stored(ingress) == before


@pytest.mark.parametrize("route", ROUTES)
async def test_body_of_unknown_length_that_breaks_leaves_nothing(ingress, client, route):
    await old(ingress)
    method, path, said, whole = request_of(route, NEW)

    async def broken():
        yield whole[:-2]
        raise Rejected("BROKEN_BODY", "the client is gone")

    answer = await client.request(method, path, headers=said, content=broken())
    assert (answer.status_code, answer.json()["code"]) == (400, "BROKEN_BODY")
    assert await stored(ingress) == {"files/a": OLD}


@pytest.mark.parametrize("route", ["files", "uploadfile", "set"])
async def test_form_of_unknown_length_without_its_end_leaves_nothing(ingress, client, route):
    await old(ingress)
    method, path, said, whole = request_of(route, NEW)
    answer = await client.request(method, path, headers=said, content=pieces(whole[:-6]))
    assert (answer.status_code, answer.json()["code"]) == (400, "BROKEN_BODY")
    assert await stored(ingress) == {"files/a": OLD}


async def test_put_without_length_or_chunks_is_refused(ingress, client):
    await old(ingress)
    request = client.build_request("PUT", "/objects/inbox/files/a")
    request.headers.pop("content-length", None)
    answer = await client.send(request)
    assert (answer.status_code, answer.json()["code"]) == (411, "LENGTH_REQUIRED")
    assert await stored(ingress) == {"files/a": OLD}


async def test_disk_that_fills_up_ends_a_body_of_unknown_length(ingress, client):
    def full(_more=0):
        raise Rejected("DISK_FULL", "the disk is full: make room")

    async def endless():
        for _ in range(3):
            yield bytes(4 << 20)
        ingress.dependencies.uploads._disk.refuse_when_full = full
        for _ in range(100):
            yield bytes(4 << 20)

    answer = await client.put("/objects/inbox/files/a", content=endless())
    assert (answer.status_code, answer.json()["code"]) == (507, "DISK_FULL")
    assert await stored(ingress) == {}


async def test_question_of_unknown_length_is_read(client):
    answer = await client.post("/gethash/", content=pieces(b'{"file_id": "0"}'))
    assert answer.json()["status"] == "INVALID_ID"
    answer = await client.post("/gethash/", content=pieces(b"x" * 5000))
    assert (answer.status_code, answer.json()["code"]) == (413, "TOO_LARGE")

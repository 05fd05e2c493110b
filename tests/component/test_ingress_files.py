"""The chunked file server over HTTP, on a store in memory."""

import pytest

from services.ingress.core.access import Principal
from services.ingress.routes.files import file_key
from shared.errors import Rejected
from shared.storage import ObjectRef
from tests.fakes.ingress import Ingress, settings

BODY = bytes(range(256)) * 8


@pytest.fixture
def ingress():
    return Ingress(settings=settings(download_chunk_bytes=100))


async def put(ingress, key="files/a.bin", body=BODY, **options):
    return await ingress.store.put(ObjectRef("inbox", key), body, **options)


@pytest.mark.parametrize("path", ["/files/", "/files"])
async def test_file_is_stored_and_downloaded_by_name(ingress, path):
    name = "a+b %41 ü.bin"
    async with ingress.client() as client:
        answer = await client.post(path, files={"file": (name, BODY)})
        got = await client.get("/files/a%2Bb%20%2541%20%C3%BC.bin")
    # its clients compare the whole body: what else there is to tell is in headers
    assert (answer.status_code, answer.json()) == (202, {"message": f"{name} upload task submitted."})
    assert answer.headers["location"] == "/files/a%2Bb%20%2541%20%C3%BC.bin"
    assert (got.status_code, got.content) == (200, BODY)
    assert got.headers["content-disposition"].endswith("''a%2Bb%20%2541%20%C3%BC.bin")
    assert (got.headers["x-content-type-options"], got.headers["accept-ranges"]) == ("nosniff", "bytes")
    assert got.headers["etag"] == answer.headers["etag"]


def test_folders_in_a_name_are_left_out_unless_they_lead_elsewhere():
    assert file_key("sub/x.txt") == "files/x.txt"
    for name in ("../x.txt", "/x.txt", "a/../x.txt", "..\\x.txt"):
        with pytest.raises(Rejected, match="escapes its folder"):
            file_key(name)


@pytest.mark.parametrize(
    ("requested", "status", "content", "content_range"),
    [
        ("bytes=0-9", 206, BODY[:10], "bytes 0-9/2048"),
        ("bytes=-7", 206, BODY[-7:], "bytes 2041-2047/2048"),
        ("bytes=2000-", 206, BODY[2000:], "bytes 2000-2047/2048"),
        ("bytes=0-", 206, BODY, "bytes 0-2047/2048"),
        ("bytes=0-1,5-6", 200, BODY, None),
    ],
)
async def test_range_is_a_slice(ingress, requested, status, content, content_range):
    await put(ingress)
    async with ingress.client() as client:
        answer = await client.get("/files/a.bin", headers={"range": requested})
    assert (answer.status_code, answer.content) == (status, content)
    assert answer.headers.get("content-range") == content_range
    assert answer.headers["content-length"] == str(len(content))


async def test_range_past_the_end_is_refused_with_the_size(ingress):
    await put(ingress)
    async with ingress.client() as client:
        answer = await client.get("/files/a.bin", headers={"range": "bytes=2048-"})
    assert (answer.status_code, answer.json()["code"]) == (416, "RANGE_PAST_END")
    assert answer.headers["content-range"] == "bytes */2048"


async def test_empty_file_is_a_file(ingress):
    await put(ingress, body=b"")
    async with ingress.client() as client:
        answer = await client.get("/files/a.bin")
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "0")


@pytest.mark.parametrize("asked", [{}, {"range": "bytes=0-9"}, {"range": "bytes=2048-"}, {"range": "bytes=-0"}])
async def test_head_has_the_headers_of_get_without_reading(ingress, asked):
    """Range is for GET alone (RFC 9110, section 14.2): an answer to HEAD is that of the whole."""
    await put(ingress)
    async with ingress.client() as client:
        head, reads = await client.head("/files/a.bin", headers=asked), ingress.store.reads
        got = await client.get("/files/a.bin")
    assert (head.status_code, head.content, reads) == (200, b"", 0)
    assert dict(head.headers) == dict(got.headers)


async def test_matching_etag_is_304(ingress):
    info = await put(ingress)
    async with ingress.client() as client:
        same = await client.get("/files/a.bin", headers={"if-none-match": f'"{info.etag}"'})
        other = await client.get("/files/a.bin", headers={"if-match": '"other"'})
        resumed = await client.get("/files/a.bin", headers={"range": "bytes=9-", "if-range": '"other"'})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", f'"{info.etag}"')
    assert (other.status_code, other.json()["code"]) == (412, "SUPERSEDED")
    assert (resumed.status_code, resumed.content) == (200, BODY)


async def test_script_is_sent_as_octet_stream(ingress):
    await put(ingress, content_type="text/html")
    async with ingress.client() as client:
        answer = await client.get("/files/a.bin")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")


@pytest.mark.parametrize("path", ["/files/nothing", "/files/a/b", "/objects/inbox/nothing", "/objects/inbox/secret/x"])
async def test_missing_and_foreign_files_give_the_same_404(ingress, path):
    await put(ingress, "secret/x")
    ingress.dependencies.tokens.authenticate = _as(
        Principal("1", "me", frozenset({"read"}), ("inbox/files/", "inbox/noth"))
    )
    async with ingress.client("any") as client:
        answer = await client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
    assert answer.json()["detail"].endswith("that you may see: check its name")


async def test_file_overwritten_between_head_and_get_is_sent_in_its_new_version(ingress):
    await put(ingress)
    read, overwrites = ingress.store.read, [b"second", b"third"]

    async def read_late(ref, **options):
        if overwrites:
            await ingress.store.put(ref, overwrites.pop(0))
        return await read(ref, **options)

    ingress.store.read = read_late
    async with ingress.client() as client:
        answer = await client.get("/files/a.bin")
    assert (answer.status_code, answer.content, overwrites) == (200, b"third", [])


def _as(principal):
    async def authenticate(_secret):
        return principal

    return authenticate

"""Which route answers: HEAD wherever GET is, `Allow` that names what there is, either spelling of a path."""

import asyncio

import pytest

from shared.storage import ObjectRef
from tests.fakes.ingress import Ingress


@pytest.fixture
async def client():
    ingress = Ingress()
    await ingress.store.put(ObjectRef("inbox", "files/a"), b"abc")
    async with ingress.client() as client:
        yield client


@pytest.mark.parametrize(
    "path",
    [
        "/whoami", "/whoami/", "/files/", "/files/a", "/docs", "/login", "/health", "/health/live", "/openapi.json",
        "/stats", "/data", "/data/loads", "/gethash/?file_id=1", "/get_hash/gethash/1", "/gethash-form/", "/tokens",
        "/uploadform/", "/objects/inbox", "/objects/inbox/files/a", "/objects/inbox/nothing", "/webhooks", "/nothing",
        "/multipart/no-ticket",
    ],
)  # fmt: skip
async def test_head_has_the_headers_of_get(client, path):
    got, head = await client.get(path), await client.head(path)
    assert head.status_code == got.status_code
    assert head.headers.get("content-type") == got.headers.get("content-type")
    assert head.headers.get("content-length") == got.headers.get("content-length")
    assert head.content == b""


async def test_head_of_a_stream_ends(client):
    head = await asyncio.wait_for(client.head("/events"), 10)
    assert (head.status_code, head.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")


async def test_stranger_is_led_to_the_login_page_by_head_too():
    async with Ingress().client(None) as client:
        head = await client.head("/files/", headers={"accept": "text/html"})
    assert (head.status_code, head.headers["location"]) == (303, "/login?next=%2Ffiles%2F")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/tokens", "GET, HEAD, POST"),
        ("DELETE", "/tokens/", "GET, HEAD, POST"),
        ("PATCH", "/objects/inbox/x", "DELETE, GET, HEAD, PUT"),
        ("DELETE", "/data", "GET, HEAD, POST"),
        ("DELETE", "/files/", "GET, HEAD, POST"),
        ("DELETE", "/files/upload_minio", "GET, HEAD, POST, PUT"),
        ("PUT", "/files/x", "GET, HEAD"),
        ("POST", "/whoami", "GET, HEAD"),
        ("GET", "/tus/", "OPTIONS, POST"),
    ],
)
async def test_allow_lists_every_method(client, method, path, allowed):
    answer = await client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("path", ["/files/upload_minio", "/files/upload_minio/"])
async def test_set_is_taken_by_either_spelling(client, method, path):
    files, data = {"files": ("x", b"new")}, {"keys_prefix": "p"}
    answer = await client.request(method, path, files=files, data=data, headers={"bucket": "inbox"})
    assert answer.status_code == 204
    assert (await client.get("/objects/inbox/p/x")).content == b"new"

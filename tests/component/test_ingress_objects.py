"""Raw objects over HTTP, on a store in memory."""

import pytest

from shared.storage import ObjectRef


async def test_put_stores_body_and_metadata(ingress):
    async with ingress.client() as client:
        headers = {"content-type": "text/plain", "x-amz-meta-Origin": "here"}
        answer = await client.put("/objects/inbox/a%20b/c.txt", content=b"hello", headers=headers)
    assert answer.status_code == 201
    assert answer.json() == {
        "bucket": "inbox",
        "key": "a b/c.txt",
        "etag": "5d41402abc4b2a76b9719d911017c592",
        "size": 5,
    }
    info, body = await ingress.store.read(ObjectRef("inbox", "a b/c.txt"))
    assert (body, info.content_type, info.metadata) == (b"hello", "text/plain", {"origin": "here"})


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/objects/inbox/a//b", 422, "KEY_UNSAFE"),
        ("/objects/inbox/..%2F..%2Fetc/passwd", 422, "KEY_UNSAFE"),
        ("/objects/inbox/a%00b", 422, "KEY_UNSAFE"),
        ("/objects/inbox/a%0Ab", 404, "NOT_FOUND"),
        ("/objects/inbox/%E2%80%AEgpj.exe", 422, "KEY_UNSAFE"),
        ("/objects/inbox/" + "x" * 1100, 422, "KEY_TOO_LONG"),
        ("/objects/inbox/", 422, "NAME_EMPTY"),
        ("/objects/nowhere/a", 404, "NO_SUCH_BUCKET"),
        ("/objects/results/a", 404, "NO_SUCH_BUCKET"),
    ],
)
async def test_place_that_is_none_is_refused_and_nothing_stored(ingress, path, status, code):
    async with ingress.client() as client:
        answer = await client.put(path, content=b"hello")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert [page async for page in ingress.store.list("inbox")] == []


@pytest.mark.parametrize(("token", "code"), [(None, "NO_TOKEN"), ("wrong", "BAD_TOKEN")])
async def test_request_without_token_is_401(ingress, token, code):
    async with ingress.client(token) as client:
        answer = await client.put("/objects/inbox/a", content=b"hello")
    assert (answer.status_code, answer.json()["code"]) == (401, code)
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_store_outage_is_503_with_retry_after(ingress):
    ingress.store.is_away = True
    async with ingress.client() as client:
        answer = await client.put("/objects/inbox/a", content=b"hello")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")

"""Buckets that everybody may read: their objects by key, and nothing else of them or of anything."""

import pytest
from pydantic import ValidationError

from services.ingress.settings import IngressSettings
from shared.storage import ObjectRef
from tests.fakes.ingress import Ingress, settings

OPEN, CLOSED = "src-data", "inbox"


@pytest.fixture
async def ingress():
    ingress = Ingress(settings=settings(anonymous_read_buckets=(OPEN,)))
    for bucket in (OPEN, CLOSED):
        await ingress.store.put(ObjectRef(bucket, "a/b.txt"), b"content")
    return ingress


@pytest.fixture
async def stranger(ingress):
    async with ingress.client(None) as client:
        yield client


async def test_object_of_an_open_bucket_is_read_without_a_token(stranger):
    answer = await stranger.get(f"/objects/{OPEN}/a/b.txt")
    assert (answer.status_code, answer.content) == (200, b"content")
    assert (await stranger.get(f"/objects/{OPEN}/a/b.txt", headers={"range": "bytes=0-1"})).status_code == 206
    head = await stranger.head(f"/objects/{OPEN}/a/b.txt")
    assert (head.status_code, head.headers["content-length"]) == (200, "7")
    assert (await stranger.get(f"/objects/{OPEN}/nothing")).status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"/objects/{CLOSED}/a/b.txt"),
        ("GET", f"/objects/{OPEN}"),
        ("GET", f"/objects/{OPEN}/"),
        ("GET", f"/objects/{OPEN}?prefix=a"),
        ("PUT", f"/objects/{OPEN}/a/b.txt"),
        ("DELETE", f"/objects/{OPEN}/a/b.txt"),
        ("POST", f"/objects/{OPEN}/a/b.txt"),
        ("GET", f"/timeline/{OPEN}/a/b.txt"),
        ("GET", f"//objects/{OPEN}/a/b.txt"),
        ("GET", "/files/b.txt"),
        ("GET", "/data"),
        ("GET", "/users"),
        ("GET", "/stats"),
        ("GET", "/events"),
        ("GET", "/tokens"),
        ("GET", "/whoami"),
        ("GET", "/"),
        ("GET", "/openapi.json"),
        ("POST", "/multipart"),
        ("POST", "/tus/"),
        ("POST", "/data"),
    ],
)
async def test_anonymous_read_opens_nothing_else(ingress, stranger, method, path):
    answer = await stranger.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (401, "NO_TOKEN")
    assert [info.ref.key async for page in ingress.store.list(OPEN) for info in page] == ["a/b.txt"]


@pytest.mark.parametrize("key", ["../inbox/a/b.txt", "..%2Finbox/a/b.txt", "%2e%2e/inbox/a/b.txt"])
async def test_no_key_leads_out_of_the_bucket(stranger, key):
    assert (await stranger.get(f"/objects/{OPEN}/{key}")).status_code in {401, 404, 422}


async def test_token_that_does_not_hold_opens_nothing(ingress):
    async with ingress.client("wrong") as client:
        assert (await client.get(f"/objects/{OPEN}/a/b.txt")).status_code == 401


async def test_no_bucket_is_open_unless_it_is_named():
    ingress = Ingress()
    await ingress.store.put(ObjectRef(OPEN, "a"), b"x")
    async with ingress.client(None) as client:
        assert (await client.get(f"/objects/{OPEN}/a")).status_code == 401


async def test_strangers_are_counted_by_their_address():
    ingress = Ingress(settings=settings(anonymous_read_buckets=(OPEN,), rate_limit=2))
    async with ingress.client(None) as stranger, ingress.client() as root:
        answers = [(await stranger.get(f"/objects/{OPEN}/a")).status_code for _ in range(3)]
        assert answers == [404, 404, 429]
        assert (await root.get("/whoami")).status_code == 200


@pytest.mark.parametrize("bucket", ["uploads", "nowhere"])
def test_only_buckets_of_objects_can_be_opened(bucket):
    with pytest.raises(ValidationError, match="PENSTOCK_ANONYMOUS_READ_BUCKETS"):
        IngressSettings(anonymous_read_buckets=(bucket,))

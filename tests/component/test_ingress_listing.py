"""Objects listed and removed over HTTP, on a store in memory."""

import itertools

import pytest

from services.ingress.core.access import Principal
from shared.storage import ObjectRef
from shared.testing.objects import MemoryStore
from tests.fakes.ingress import Front

KEYS = ["a", "b/1", "b/2", "b/c/3", "b2", "d/é", "z"]


@pytest.fixture
async def front():
    front = Front(store=MemoryStore("inbox", "results", "uploads"))
    for bucket, key in itertools.product(("inbox", "results", "uploads"), KEYS):
        await front.store.put(ObjectRef(bucket, key), b"x")
    return front


async def pages(front, bucket="inbox", **asked):
    """Give the names of every page, objects and folders together."""
    found, start = [], ""
    async with front.client() as client:
        while start is not None:
            answer = await client.get(f"/objects/{bucket}", params={**asked, "start_after": start})
            page = answer.raise_for_status().json()
            found.append(sorted([one["key"] for one in page["objects"]] + page["folders"]))
            start = page["next"]
    return found


def restrict(front, *places):
    async def restricted(_secret):
        return Principal("1", "me", frozenset({"read", "write"}), places)

    front.dependencies.tokens.authenticate = restricted


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, KEYS),
        ({"prefix": "b"}, ["b/1", "b/2", "b/c/3", "b2"]),
        ({"delimiter": "/"}, ["a", "b/", "b2", "d/", "z"]),
        ({"delimiter": "/", "prefix": "b/"}, ["b/1", "b/2", "b/c/"]),
        ({"prefix": "nothing"}, []),
    ],
)
async def test_pages_follow_each_other_without_a_gap(front, limit, asked, expected):
    found = await pages(front, limit=limit, **asked)
    assert list(itertools.chain(*found)) == expected
    assert all(len(page) == limit for page in found[:-1])


@pytest.mark.parametrize(
    ("asked", "expected"), [({}, ["b/1", "b/c/3"]), ({"prefix": "b/c"}, ["b/c/3"]), ({"delimiter": "/"}, ["b/"])]
)
async def test_listing_shows_visible_keys_only(front, asked, expected):
    restrict(front, "inbox/b/1", "inbox/b/c/", "results/")
    assert list(itertools.chain(*await pages(front, limit=1, **asked))) == expected


@pytest.mark.parametrize("bucket", ["uploads", "nowhere", "processed-data"])
@pytest.mark.parametrize("path", ["", "/a"])
async def test_bucket_that_is_not_ones_own_is_not_there(front, bucket, path):
    restrict(front, "inbox/")
    async with front.client("any") as client:
        answer = await client.get(f"/objects/{bucket}{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "NO_SUCH_BUCKET")


async def test_staging_bucket_is_not_accessible(front):
    async with front.client() as client:
        answer = await client.get("/objects/uploads/a")
    assert (answer.status_code, answer.json()["code"]) == (404, "NO_SUCH_BUCKET")


async def test_results_are_read_and_not_removed(front):
    async with front.client() as client:
        got = await client.get("/objects/results/b/1")
        removed = await client.delete("/objects/results/b/1")
    assert (got.status_code, got.content) == (200, b"x")
    assert (removed.status_code, removed.json()["code"]) == (404, "NO_SUCH_BUCKET")


async def test_second_delete_of_an_object_is_404(front):
    async with front.client() as client:
        answers = [await client.delete("/objects/inbox/b/1") for _ in range(2)]
    assert [one.status_code for one in answers] == [204, 404]
    assert await pages(front, prefix="b/") == [["b/2", "b/c/3"]]


async def test_anothers_object_is_not_removed(front):
    restrict(front, "inbox/b/")
    async with front.client("any") as client:
        answer = await client.delete("/objects/inbox/a")
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
    assert (await front.store.head(ObjectRef("inbox", "a"))).size == 1


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("path", ["/objects/inbox/", "/objects/inbox/%2E%2E/uploads/a", "/objects/inbox/b/%2E"])
async def test_no_key_reaches_beyond_its_bucket(front, method, path):
    async with front.client() as client:
        answer = await client.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (422, "KEY_UNSAFE")
    assert sum(len(page) for page in await pages(front)) == len(KEYS)


@pytest.mark.parametrize("asked", [{"limit": 0}, {"limit": 1001}, {"limit": "x"}])
async def test_page_has_at_least_one_object_and_at_most_a_thousand(front, asked):
    async with front.client() as client:
        answer = await client.get("/objects/inbox", params=asked)
    assert answer.status_code == 422

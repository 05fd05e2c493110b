"""Objects listed and removed over HTTP, on a store in memory."""

import itertools

import pytest

from services.ingress.core.access import Principal
from shared.storage import ObjectRef
from shared.testing.objects import MemoryStore
from tests.fakes.ingress import Ingress

KEYS = ["a", "b/1", "b/2", "b/c/3", "b2", "d/é", "z"]


@pytest.fixture
async def ingress():
    ingress = Ingress(store=MemoryStore("inbox", "results", "uploads"))
    for bucket, key in itertools.product(("inbox", "results", "uploads"), KEYS):
        await ingress.store.put(ObjectRef(bucket, key), b"x")
    return ingress


async def pages(ingress, bucket="inbox", **params):
    """Give the names of every page, objects and folders together."""
    found, start = [], ""
    async with ingress.client() as client:
        while start is not None:
            answer = await client.get(f"/objects/{bucket}", params={**params, "start_after": start})
            page = answer.raise_for_status().json()
            found.append(sorted([one["key"] for one in page["objects"]] + page["folders"]))
            start = page["next"]
    return found


def restrict(ingress, *prefixes):
    async def restricted(_secret):
        return Principal("1", "me", frozenset({"read", "write"}), prefixes)

    ingress.dependencies.tokens.authenticate = restricted


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, KEYS),
        ({"prefix": "b"}, ["b/1", "b/2", "b/c/3", "b2"]),
        ({"delimiter": "/"}, ["a", "b/", "b2", "d/", "z"]),
        ({"delimiter": "/", "prefix": "b/"}, ["b/1", "b/2", "b/c/"]),
        ({"prefix": "nothing"}, []),
    ],
)
async def test_pages_follow_each_other_without_a_gap(ingress, limit, params, expected):
    found = await pages(ingress, limit=limit, **params)
    assert list(itertools.chain(*found)) == expected
    assert all(len(page) == limit for page in found[:-1])


@pytest.mark.parametrize(
    ("params", "expected"), [({}, ["b/1", "b/c/3"]), ({"prefix": "b/c"}, ["b/c/3"]), ({"delimiter": "/"}, ["b/"])]
)
async def test_listing_shows_visible_keys_only(ingress, params, expected):
    restrict(ingress, "inbox/b/1", "inbox/b/c/", "results/")
    assert list(itertools.chain(*await pages(ingress, limit=1, **params))) == expected


@pytest.mark.parametrize("bucket", ["uploads", "nowhere", "processed-data"])
@pytest.mark.parametrize("path", ["", "/a"])
async def test_bucket_that_is_not_ones_own_is_not_there(ingress, bucket, path):
    restrict(ingress, "inbox/")
    async with ingress.client("any") as client:
        answer = await client.get(f"/objects/{bucket}{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "NO_SUCH_BUCKET")


async def test_staging_bucket_is_not_accessible(ingress):
    async with ingress.client() as client:
        answer = await client.get("/objects/uploads/a")
    assert (answer.status_code, answer.json()["code"]) == (404, "NO_SUCH_BUCKET")


async def test_results_are_read_and_not_removed(ingress):
    async with ingress.client() as client:
        got = await client.get("/objects/results/b/1")
        removed = await client.delete("/objects/results/b/1")
    assert (got.status_code, got.content) == (200, b"x")
    assert (removed.status_code, removed.json()["code"]) == (404, "NO_SUCH_BUCKET")


async def test_second_delete_of_an_object_is_404(ingress):
    async with ingress.client() as client:
        answers = [await client.delete("/objects/inbox/b/1") for _ in range(2)]
    assert [one.status_code for one in answers] == [204, 404]
    assert await pages(ingress, prefix="b/") == [["b/2", "b/c/3"]]


async def test_anothers_object_is_not_removed(ingress):
    restrict(ingress, "inbox/b/")
    async with ingress.client("any") as client:
        answer = await client.delete("/objects/inbox/a")
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
    assert (await ingress.store.head(ObjectRef("inbox", "a"))).size == 1


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("path", ["/objects/inbox/", "/objects/inbox/%2E%2E/uploads/a", "/objects/inbox/b/%2E"])
async def test_no_key_reaches_beyond_its_bucket(ingress, method, path):
    async with ingress.client() as client:
        answer = await client.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (422, "KEY_UNSAFE")
    assert sum(len(page) for page in await pages(ingress)) == len(KEYS)


@pytest.mark.parametrize("params", [{"limit": 0}, {"limit": 1001}, {"limit": "x"}])
async def test_page_has_at_least_one_object_and_at_most_a_thousand(ingress, params):
    async with ingress.client() as client:
        answer = await client.get("/objects/inbox", params=params)
    assert answer.status_code == 422

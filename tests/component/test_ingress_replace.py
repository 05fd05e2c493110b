"""A set of files in place of everything under a prefix, on a store in memory."""

import asyncio
from datetime import timedelta

import pytest

from services.ingress.adapters import replacement
from services.ingress.adapters.staging import SMALL_FILE_BYTES
from services.ingress.core.access import Principal
from shared.errors import Outage
from shared.storage import ObjectRef
from tests.fakes.ingress import Ingress, settings

OLD = {"p/x": b"old", "p/gone": b"old", "pq/stays": b"old"}


@pytest.fixture
async def ingress():
    ingress = Ingress(settings=settings(max_form_parts=20))
    for key, body in OLD.items():
        await ingress.store.put(ObjectRef("inbox", key), body)
    return ingress


def form(*names, prefix="p", field="files"):
    return {
        "data": {} if prefix is None else {"keys_prefix": prefix},
        "files": [(field, (name, f"new {name}".encode(), "text/x-odd")) for name in names],
        "headers": {"bucket": "inbox"},
    }


async def sent(ingress, method="POST", **options):
    async with ingress.client() as client:
        return await client.request(method, "/files/upload_minio", **options)


async def listed(ingress, bucket="inbox"):
    keys = [info.ref.key async for page in ingress.store.list(bucket) for info in page]
    return {key: (await ingress.store.read(ObjectRef(bucket, key)))[1] for key in keys}


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("prefix", ["p", "p/", "/p/"])
async def test_new_set_is_all_that_is_left_under_the_prefix(ingress, method, prefix):
    answer = await sent(ingress, method, **form("x", "sub/y.py", prefix=prefix))
    assert (answer.status_code, answer.content) == (204, b"")
    expected = {"p/x": b"new x", "p/sub/y.py": b"new sub/y.py", "pq/stays": b"old"}
    assert await listed(ingress) == expected
    assert (await ingress.store.head(ObjectRef("inbox", "p/x"))).content_type == "text/x-odd"
    assert await listed(ingress, "uploads") == {}


async def test_prefix_field_may_follow_the_files(ingress):
    body = (
        b'--b\r\nContent-Disposition: form-data; name="files"; filename="x"\r\n\r\nnew\r\n'
        b'--b\r\nContent-Disposition: form-data; name="keys_prefix"\r\n\r\np\r\n--b--\r\n'
    )
    headers = {"bucket": "inbox", "content-type": "multipart/form-data; boundary=b"}
    assert (await sent(ingress, content=body, headers=headers)).status_code == 204
    assert await listed(ingress) == {"p/x": b"new", "pq/stays": b"old"}


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        (form("x", "y", "x"), 422, "SAME_NAME"),
        (form("x", "x/y"), 422, "SAME_NAME"),
        (form("x", "../y"), 422, "KEY_UNSAFE"),
        (form("x", "/y"), 422, "KEY_UNSAFE"),
        (form("x", "sub/"), 422, "NAME_EMPTY"),
        (form("x", field="file"), 422, "WRONG_FIELD"),
        (form("x", prefix=None), 422, "PREFIX_EMPTY"),
        (form("x", prefix=""), 422, "PREFIX_EMPTY"),
        (form("x", prefix="/"), 422, "PREFIX_EMPTY"),
        (form("x", prefix="../p"), 422, "KEY_UNSAFE"),
        (form("x", prefix="p/x"), 422, "PREFIX_HIDDEN"),
        (form(*"abcdefghijklmnopqrstuvw"), 413, "TOO_LARGE"),
        ({**form("x"), "headers": {"bucket": "nowhere"}}, 404, "NO_SUCH_BUCKET"),
        ({**form("x"), "headers": {"bucket": "results"}}, 404, "NO_SUCH_BUCKET"),
        ({**form("x"), "headers": {}}, 422, "BAD_REQUEST"),
        (
            {"data": {"keys_prefix": "p"}, "files": {"files": (None, "x")}, "headers": {"bucket": "inbox"}},
            422,
            "NO_FILE",
        ),
    ],
)
async def test_one_fault_changes_nothing(ingress, options, status, code):
    answer = await sent(ingress, **options)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert await listed(ingress) == OLD
    assert await listed(ingress, "uploads") == {}


async def test_foreign_prefix_cannot_be_replaced(ingress):
    async def restricted(_secret):
        return Principal("1", "me", frozenset({"write"}), ("inbox/p/sub/",))

    ingress.dependencies.tokens.authenticate = restricted
    answer = await sent(ingress, **form("sub/x"))
    assert (answer.status_code, answer.json()["code"]) == (404, "NO_SUCH_BUCKET")
    assert await listed(ingress) == OLD


async def test_outage_before_the_manifest_changes_nothing(ingress):
    put = ingress.store.put

    async def away(ref, body, **options):
        if ref.key.endswith("manifest.json"):
            raise Outage("away")
        return await put(ref, body, **options)

    ingress.store.put = away
    assert (await sent(ingress, **form("x"))).status_code == 503
    assert await listed(ingress) == OLD
    assert await listed(ingress, "uploads") == {}


async def test_outage_after_the_manifest_is_finished_later(ingress):
    broken = _break(ingress.store, "copy", after=1)
    answer = await sent(ingress, **form("x", "y", "z"))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "the set is safe" in answer.json()["detail"]
    broken.fix()
    await ingress.dependencies.replacements.finish_pending()
    assert await listed(ingress) == {**{f"p/{n}": f"new {n}".encode() for n in "xyz"}, "pq/stays": b"old"}
    assert await listed(ingress, "uploads") == {}


@pytest.mark.parametrize(("what", "after"), [("copy", 0), ("copy", 2), ("delete", 0), ("delete", 1), ("delete", 3)])
async def test_process_that_ends_after_the_manifest_leaves_the_set_to_the_next(ingress, what, after):
    broken = _break(ingress.store, what, after=after, error=asyncio.CancelledError)
    async with ingress.client() as client:
        task = asyncio.ensure_future(client.post("/files/upload_minio", **form("x", "y", "z")))
        await asyncio.wait((task,))
    broken.fix()
    following = Ingress(settings=ingress.settings, store=ingress.store)
    await following.dependencies.replacements.finish_pending()
    assert await listed(ingress) == {**{f"p/{n}": f"new {n}".encode() for n in "xyz"}, "pq/stays": b"old"}
    assert not [key for key in await listed(ingress, "uploads") if key.endswith("manifest.json")]


async def test_set_waits_for_the_one_that_was_broken_off_before_it(ingress):
    broken = _break(ingress.store, "copy", after=1)
    await sent(ingress, **form("x", "y"))
    broken.fix()
    assert (await sent(ingress, **form("z"))).status_code == 204
    assert await listed(ingress) == {"p/z": b"new z", "pq/stays": b"old"}
    assert await listed(ingress, "uploads") == {}


async def test_concurrent_sets_of_one_prefix_never_mix(ingress):
    copy = ingress.store.copy

    async def slow(source, ref):
        await asyncio.sleep(0)
        await copy(source, ref)

    ingress.store.copy = slow
    sets = [form(*(f"{number}-{n}" for n in range(5)), prefix=("p", "p/in", "p/")[number % 3]) for number in range(12)]
    answers = await asyncio.gather(*(sent(ingress, **one) for one in sets))
    assert {one.status_code for one in answers} == {204}
    left = {key.rpartition("/")[2].partition("-")[0] for key in await listed(ingress) if key.startswith("p/")}
    outer = {number for number in left if int(number) % 3 != 1}
    inner = left - outer
    assert len(outer) <= 1
    assert len(inner) <= 1
    assert len([key for key in await listed(ingress) if key.startswith("p/")]) == 5 * len(left)


async def test_abandoned_set_is_removed_after_an_hour(ingress, monkeypatch):
    await ingress.store.put(ObjectRef("uploads", "sets/left/0"), b"x")
    await ingress.store.put(ObjectRef("uploads", "tus/other"), b"x")
    await ingress.dependencies.replacements.finish_pending()
    assert await listed(ingress, "uploads") == {"sets/left/0": b"x", "tus/other": b"x"}
    monkeypatch.setattr(replacement, "ABANDONED_AFTER", timedelta(seconds=-5))
    await ingress.dependencies.replacements.finish_pending()
    assert await listed(ingress, "uploads") == {"tus/other": b"x"}


async def test_unreadable_manifest_blocks_no_other(ingress):
    await ingress.store.put(ObjectRef("uploads", "sets/odd/manifest.json"), b"{")
    assert (await sent(ingress, **form("x"))).status_code == 204


class _break:  # noqa: N801 - reads as what it does
    def __init__(self, store, what, *, after, error=Outage):
        self._store, self._what, self._real = store, what, getattr(store, what)
        calls = 0

        async def broken(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls > after:
                raise error("broken")
            return await self._real(*args, **kwargs)

        setattr(store, what, broken)

    def fix(self):
        setattr(self._store, self._what, self._real)


async def test_set_of_more_than_a_thousand_files_is_replaced():
    ingress = Ingress()
    names = [f"{number % 7}/{number}" for number in range(1500)]
    assert (await sent(ingress, **form(*names))).status_code == 204
    assert len(await listed(ingress)) == len(names)
    assert (await sent(ingress, **form("x"))).status_code == 204
    assert await listed(ingress) == {"p/x": b"new x"}
    assert await listed(ingress, "uploads") == {}


async def test_set_with_too_many_files_is_refused_with_the_limit(ingress):
    answer = await sent(ingress, **form(*map(str, range(20))))
    assert (answer.status_code, answer.json()["code"]) == (413, "TOO_LARGE")
    assert "more than 20 files and fields" in answer.json()["detail"]
    assert await listed(ingress) == OLD


async def test_files_of_every_size_are_staged(ingress):
    sizes = [0, 1, SMALL_FILE_BYTES - 1, SMALL_FILE_BYTES, SMALL_FILE_BYTES + 1, 3 * SMALL_FILE_BYTES]
    files = [("files", (str(size), bytes(size), "text/x-odd")) for size in sizes]
    answer = await sent(ingress, data={"keys_prefix": "p"}, files=files, headers={"bucket": "inbox"})
    assert answer.status_code == 204
    assert {key: len(body) for key, body in (await listed(ingress)).items() if key.startswith("p/")} == {
        f"p/{size}": size for size in sizes
    }


async def test_failed_small_file_fails_the_whole_set(ingress):
    _break(ingress.store, "put", after=3)
    assert (await sent(ingress, **form(*map(str, range(15))))).status_code == 503
    assert await listed(ingress) == OLD

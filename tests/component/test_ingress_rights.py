"""Every route, asked by a token that sees a part of things about what is elsewhere, and what each route can make.

Both walks take the routes from the application: one that is added without a decision here fails them.
"""

import asyncio
import re
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import thread_time

import pytest
from starlette.routing import Mount

from services.ingress.adapters import tus
from services.ingress.core.fact_filter import FactFilter
from services.ingress.core.facts import Fact
from services.ingress.core.load_ids import new_load_id
from services.ingress.core.upload_ids import OWNER_KEY
from services.ingress.core.upload_status import Upload
from services.ingress.core.webhooks import Webhook
from shared.storage import ObjectRef
from tests.fakes.ingress import Ingress

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPOKEN = {"tus-resumable": "1.0.0"}
BYTES = {**SPOKEN, "content-type": "application/offset+octet-stream", "upload-offset": "0"}
MINE = "inbox/ten-a/"
ALL = ["read", "write", "run", "admin"]


def leaves(found):
    for route in found:
        inner = getattr(route, "original_router", None)
        yield from leaves(inner.routes) if inner else (route,)


ROUTES = sorted(
    (method, route.path)
    for route in leaves(Ingress().app.routes)
    if not isinstance(route, Mount)
    for method in (getattr(route, "methods", None) or {"GET"})
)


@dataclass(frozen=True)
class Foreign:
    """How a route is asked about a foreign thing: `at` fills its path or is asked for otherwise."""

    at: str = ""
    more: dict = field(default_factory=dict)
    is_silent: bool = False
    """It answers 200 with what is told of nothing."""


SYSTEM = "of no thing in particular: its answer is the same for all, or is cut to what the token sees"
OBJECT, ABSENT, BUCKET = Foreign("object"), Foreign("absent"), Foreign("bucket")
TUS, TICKET, TOKEN, HOOK, LOAD = (Foreign(name) for name in ("tus", "ticket", "token", "hook", "load"))
ID, ASKED = Foreign("id", is_silent=True), Foreign("id", {"params": "file_id"}, is_silent=True)
DATASET = Foreign("dataset", {"params": "dataset"})
FORM = {"files": {"file": ("x.bin", b"x")}}

WALK = {
    ("GET", "/objects/{bucket}"): BUCKET,
    ("GET", "/objects/{bucket}/{key:path}"): OBJECT,
    ("HEAD", "/objects/{bucket}/{key:path}"): OBJECT,
    ("DELETE", "/objects/{bucket}/{key:path}"): OBJECT,
    ("PUT", "/objects/{bucket}/{key:path}"): Foreign("object", {"content": b"x"}),
    ("GET", "/files/{name:path}"): Foreign("file"),
    ("HEAD", "/files/{name:path}"): Foreign("file"),
    ("POST", "/files/"): Foreign("", FORM),
    ("POST", "/files"): Foreign("", FORM),
    ("POST", "/uploadfile/"): Foreign("", FORM),
    ("POST", "/uploadfile"): Foreign("", FORM),
    ("POST", "/uploadfile-html/"): Foreign("", FORM),
    ("POST", "/uploadfile-html"): Foreign("", FORM),
    ("POST", "/files/upload_minio"): Foreign("set"),
    ("PUT", "/files/upload_minio"): Foreign("set"),
    ("GET", "/timeline/{bucket}/{key:path}"): OBJECT,
    ("GET", "/links/{id}"): Foreign("id"),
    ("GET", "/gethash-form/"): ASKED,
    ("GET", "/gethash-form/fragment"): ASKED,
    **{
        (method, f"{root}{path}"): how
        for root in ("", "/get_hash")
        for method in ("GET", "POST")
        for path, how in {
            "/gethash/": ASKED, "/gethash": ASKED, "/gethash/{file_id}": ID, "/gethash/{file_id}/": ID,
        }.items()
    },
    ("GET", "/data"): DATASET,
    ("POST", "/data"): DATASET,
    ("GET", "/data/loads"): SYSTEM,
    ("GET", "/data/loads/{load_id}"): LOAD,
    ("GET", "/data/rejects"): DATASET,
    ("GET", "/stats"): DATASET,
    ("GET", "/users/loads"): DATASET,
    ("POST", "/users/run"): DATASET,
    ("GET", "/users"): SYSTEM,
    ("GET", "/stats/database"): SYSTEM,
    ("GET", "/stats/workers"): SYSTEM,
    ("POST", "/multipart"): Foreign("", {"json": {"bucket": "inbox", "key": "ten-b/x", "size": 1}}),
    ("GET", "/multipart/{id}"): TICKET,
    ("DELETE", "/multipart/{id}"): TICKET,
    ("POST", "/multipart/{id}/complete"): TICKET,
    ("POST", "/multipart/{id}/sign"): Foreign("ticket", {"json": {"numbers": [1]}}),
    ("POST", "/tus"): Foreign("", {"headers": {**SPOKEN, "upload-length": "1"}}),
    ("POST", "/tus/"): Foreign("", {"headers": {**SPOKEN, "upload-length": "1"}}),
    ("OPTIONS", "/tus"): SYSTEM,
    ("OPTIONS", "/tus/"): SYSTEM,
    ("OPTIONS", "/tus/{upload_id}"): SYSTEM,
    ("HEAD", "/tus/{upload_id}"): Foreign("tus", {"headers": SPOKEN}),
    ("DELETE", "/tus/{upload_id}"): Foreign("tus", {"headers": SPOKEN}),
    ("PATCH", "/tus/{upload_id}"): Foreign("tus", {"headers": BYTES, "content": b"x"}),
    ("POST", "/tus/{upload_id}"): Foreign("tus", {"headers": {**SPOKEN, "x-http-method-override": "DELETE"}}),
    ("DELETE", "/tokens/{id}"): TOKEN,
    ("GET", "/tokens"): SYSTEM,
    ("POST", "/tokens"): SYSTEM,
    ("GET", "/webhooks"): SYSTEM,
    ("POST", "/webhooks"): SYSTEM,
    ("GET", "/webhooks/{webhook_id}"): HOOK,
    ("DELETE", "/webhooks/{webhook_id}"): HOOK,
    ("POST", "/webhooks/{webhook_id}/test"): HOOK,
    ("POST", "/webhooks/{webhook_id}/retry"): HOOK,
    ("GET", "/webhooks/{webhook_id}/failures"): HOOK,
    **dict.fromkeys(
        [
            ("GET", "/"), ("GET", "/recent"), ("GET", "/files/"), ("GET", "/uploadform/"), ("GET", "/events"),
            ("GET", "/docs"), ("GET", "/openapi.json"), ("HEAD", "/openapi.json"), ("GET", "/health"),
            ("GET", "/health/live"), ("GET", "/metrics"), ("GET", "/login"), ("POST", "/login"), ("POST", "/logout"),
            ("POST", "/login/links"), ("GET", "/whoami"),
        ],
        SYSTEM,
    ),
}  # fmt: skip


def test_every_route_has_a_declared_right():
    assert not set(ROUTES) - WALK.keys(), "say here what these routes tell a token of what is elsewhere"
    assert not WALK.keys() - set(ROUTES)


@pytest.fixture
def ingress():
    ingress = Ingress()
    ingress.calls = []
    for name in ("head", "read", "list", "stream", "put", "delete"):
        _counted(ingress, ingress.store, name)
    _counted(ingress, ingress.dependencies.views, "upload")
    return ingress


def _counted(ingress, what, name):
    inner = getattr(what, name)

    def counting(*args, **options):
        ingress.calls.append(name)
        return inner(*args, **options)

    setattr(what, name, counting)


@pytest.fixture
async def root(ingress):
    await ingress.dependencies.tokens.refresh()
    async with ingress.client() as client:
        yield client


async def made(by, scopes=ALL, **fields):
    answer = await by.post("/tokens", json={"name": secrets.token_hex(4), "scopes": scopes, **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


@pytest.fixture
async def confined(ingress, root):
    async with ingress.client((await made(root, places=[MINE]))["token"]) as client:
        yield client


@pytest.fixture
async def foreign(ingress, root):
    """What is elsewhere: by the name of what a route asks for, the one that is there and one that is nowhere."""
    key = "ten-b/secret.bin"
    upload = secrets.token_hex(16)
    for one in (key, "files/secret.bin", f"uploads/{upload}/secret.bin"):
        await ingress.store.put(ObjectRef("inbox", one), b"secret", metadata={OWNER_KEY: "root"})
    ingress.dependencies.views.uploads["inbox", upload] = Upload(
        upload, "inbox", f"uploads/{upload}/secret.bin", owner="root", state="stored", etag="e"
    )
    await ingress.facts.add([Fact("t", 0, 1, "e", "objects.changed.v1", NOW, bucket="inbox", key=key)])
    begun = await root.post("/tus/", headers={**SPOKEN, "upload-length": "9"})
    ticket = (await root.post("/multipart", json={"key": key, "size": 9})).json()["id"]
    hook = Webhook("a" * 16, "http://x/", FactFilter(), (), 0, "root", "root", NOW)
    await ingress.dependencies.webhooks.add(hook)
    return {
        "object": (f"inbox/{key}", "inbox/ten-b/nowhere"),
        "file": ("secret.bin", "nowhere"),
        "bucket": ("src-data", "nosuchbucket"),
        "set": ("src-data", "nosuchbucket"),
        "id": (upload, secrets.token_hex(16)),
        "tus": (begun.headers["location"].rpartition("/")[2], secrets.token_hex(16)),
        "ticket": (ticket, ticket[:-8] + "AAAAAAAA"),
        "token": ((await made(root))["id"], secrets.token_hex(8)),
        "hook": (hook.id, "b" * 16),
        "load": (new_load_id(ingress.settings.key_bytes, datetime.now(UTC), "users"), secrets.token_hex(16)),
        "dataset": ("users", "nowhere"),
    }


def asked(method, path, how, thing):
    """Return the request that asks a route for `thing`."""
    more = dict(how.more)
    if how.at == "set":
        form = {"keys_prefix": "ten-b/"}
        return method, path, {"headers": {"bucket": thing}, "data": form, "files": {"files": ("x", b"x")}}
    if "params" in more:
        return method, path, {"params": {more.pop("params"): thing}}
    if "{bucket}" in path:
        bucket, _, key = thing.partition("/")
        path = path.replace("{bucket}", bucket).replace("{key:path}", key)
    return method, re.sub(r"{[^}]*}", thing, path), more


THINGS = [(way, how) for way, how in WALK.items() if isinstance(how, Foreign)]


@pytest.mark.parametrize(("way", "how"), THINGS, ids=[" ".join(way) for way, _ in THINGS])
async def test_foreign_objects_do_not_exist(ingress, confined, foreign, way, how):
    answers = []
    for thing in foreign[how.at] if how.at else ("", ""):
        method, path, more = asked(*way, how, thing)
        ingress.calls.clear()
        answer = await confined.request(method, path, **more)
        text = answer.text.replace(thing, "THING") if thing else answer.text
        answers.append((answer.status_code, text, dict(answer.headers) | {"content-length": ""}, list(ingress.calls)))
    assert answers[0] == answers[1]
    assert answers[0][0] == (200 if how.is_silent else 404)
    assert how.is_silent or way[0] == "HEAD" or "secret" not in answers[0][1]


@pytest.mark.parametrize("path", ["/gethash/{}", "/links/{}"])
async def test_upload_of_another_owner_costs_as_many_questions_as_an_unknown_one(ingress, root, foreign, path):
    """A token that sees the place, and is not the owner: the recorded owner is not told by the time it takes."""
    async with ingress.client((await made(root, ["read"]))["token"]) as reader:
        asked_of = []
        for thing in foreign["id"]:
            ingress.calls.clear()
            answer = await reader.get(path.format(thing))
            asked_of.append((answer.status_code, answer.text, len(ingress.calls)))
    assert asked_of[0] == asked_of[1]


async def test_foreign_upload_that_is_busy_does_not_exist_either(ingress, confined, root, foreign, monkeypatch):
    monkeypatch.setattr(tus, "TAKE_OVER_SECONDS", 0.01)
    number = foreign["tus"][0]
    async with ingress.dependencies.tus._exclusive(number, "root"):
        assert (await confined.head(f"/tus/{number}", headers=SPOKEN)).status_code == 404
        assert (await root.head(f"/tus/{number}", headers=SPOKEN)).status_code == 423
    token_id = (await confined.get("/whoami")).json()["id"]
    async with ingress.dependencies.tus._exclusive(number, token_id):
        assert (await root.head(f"/tus/{number}", headers=SPOKEN)).status_code == 200


async def test_foreign_and_unknown_take_the_same_time(confined, foreign):
    times = {0: [], 1: []}
    for _ in range(30):
        for which, thing in enumerate(foreign["token"]):
            began = thread_time()
            await confined.delete(f"/tokens/{thing}")
            times[which].append(thread_time() - began)
    print({which: f"{median(one) * 1e3:.2f} ms" for which, one in times.items()})
    assert median(times[0]) < 3 * median(times[1])
    assert median(times[1]) < 3 * median(times[0])


# lists, and what is of the whole system


async def test_confined_admin_sees_itself_and_its_descendants_only(ingress, root, confined, foreign):  # noqa: ARG001
    me = (await confined.get("/whoami")).json()["id"]
    child = await made(confined, places=[MINE])
    async with ingress.client(child["token"]) as client:
        grandchild = await made(client, ["read"], places=[MINE])
    assert {one["id"] for one in (await confined.get("/tokens")).json()} == {me, child["id"], grandchild["id"]}
    assert (await confined.get("/webhooks")).json() == []
    hook = Webhook("c" * 16, "http://x/", FactFilter(), (MINE,), 0, "child", grandchild["id"], NOW)
    await ingress.dependencies.webhooks.add(hook)
    assert [one["id"] for one in (await confined.get("/webhooks")).json()] == [hook.id]
    async with ingress.client(child["token"]) as client:
        assert (await client.delete(f"/tokens/{me}")).status_code == 404
    assert (await confined.delete(f"/tokens/{grandchild['id']}")).status_code == 204
    assert len((await root.get("/tokens")).json()) == 3


async def test_name_of_a_foreign_token_is_free(confined, root):
    taken = await made(root)
    fields = {"name": taken["name"], "scopes": ["read"], "places": [MINE]}
    assert (await confined.post("/tokens", json=fields)).status_code == 201
    assert (await confined.post("/tokens", json=fields)).json()["code"] == "NAME_TAKEN"


async def test_system_statistics_need_access_to_everything(ingress, confined, root):
    async def counts(places):
        return {"digests": [], "objects": [], "work": [], "tables": [1], "last_sweep": list(places)}

    ingress.dependencies.views.counts = counts
    assert (await root.get("/stats/workers")).status_code == 200
    refused = await confined.get("/stats/workers")
    assert (refused.status_code, refused.json()["code"]) == (403, "WRONG_PLACE")
    assert (await confined.get("/stats/database")).json()["last_sweep"] == [MINE]


@pytest.mark.parametrize("path", ["/data/loads", "/users", "/files/", "/recent"])
async def test_lists_of_a_confined_token_hold_nothing_foreign(ingress, confined, foreign, path):  # noqa: ARG001
    ingress.dependencies.loads.table = [{"load_id": "l" * 32, "dataset": "users", "state": "running"}]

    async def recent(places, _limit):
        assert list(places) == [MINE]
        return []

    ingress.dependencies.views.recent = recent
    answer = await confined.get(path)
    assert answer.status_code == 200
    assert not {"secret", "l" * 32} & set(re.findall(r"\w+", answer.text))


# no token is wider than its maker


@pytest.mark.parametrize(
    ("maker", "fields", "code"),
    [
        ({"places": [MINE]}, {}, "WRONG_PLACE"),
        ({"places": [MINE]}, {"places": ["inbox/"]}, "WRONG_PLACE"),
        ({"places": [MINE]}, {"places": [MINE, "inbox/ten-b/"]}, "WRONG_PLACE"),
        ({"places": [MINE]}, {"places": ["inbox/ten-a"]}, "WRONG_PLACE"),
        ({"rate": 5}, {"rate": 5.1}, "EXCEEDS_OWN_RIGHTS"),
        ({"rate": 5}, {"rate": 1e6}, "EXCEEDS_OWN_RIGHTS"),
        ({"expires_in": 60}, {"expires_in": 61}, "EXCEEDS_OWN_RIGHTS"),
        ({"expires_in": 60}, {"expires_in": 10 * 365 * 86_400}, "EXCEEDS_OWN_RIGHTS"),
    ],
)
async def test_token_wider_than_its_maker_is_refused(ingress, root, maker, fields, code):
    async with ingress.client((await made(root, ["admin"], **maker))["token"]) as client:
        refused = await client.post("/tokens", json={"name": "wide", "scopes": ["read"], **fields})
    assert (refused.status_code, refused.json()["code"]) == (403, code)
    assert len((await root.get("/tokens")).json()) == 1


async def test_token_inherits_the_rate_and_the_end_of_its_maker(ingress, root):
    maker = await made(root, ["admin"], rate=5, expires_in=60)
    async with ingress.client(maker["token"]) as client:
        child = await made(client, ["read"])
    assert (child["rate"], child["expires_at"]) == (5, maker["expires_at"])


async def test_descendants_share_the_rate_of_their_ancestor(ingress, root):
    maker = await made(root, ["admin"], rate=10)
    async with ingress.client(maker["token"]) as client:
        children = [await made(client, ["read"]) for _ in range(4)]
    statuses = []
    for child in children * 5:
        async with ingress.client(child["token"]) as client:
            statuses.append((await client.get("/whoami")).status_code)
    assert statuses.count(200) == 6  # what the maker had left of its ten: the clock stands still
    assert statuses.count(429) == 14


async def test_descent_has_an_end(ingress, root):
    token = await made(root, ["admin"])
    for _ in range(7):
        async with ingress.client(token["token"]) as client:
            token = await made(client, ["admin"])
    async with ingress.client(token["token"]) as client:
        refused = await client.post("/tokens", json={"name": "deep", "scopes": ["read"]})
    assert (refused.status_code, refused.json()["code"]) == (403, "EXCEEDS_OWN_RIGHTS")


# what ends with a token

NOTHING = "nothing that outlives the answer"
ENDS = {
    ("POST", "/tokens"): "tokens",
    ("POST", "/login/links"): "login links",
    ("POST", "/login"): "sessions",
    ("GET", "/login"): "sessions",
    ("POST", "/webhooks"): "webhooks",
    ("POST", "/webhooks/{webhook_id}/retry"): "webhooks",
    ("GET", "/events"): "streams of `/events`",
    ("POST", "/multipart"): "multipart uploads",
    ("POST", "/multipart/{id}/sign"): "multipart uploads",
    ("POST", "/tus"): "resumable uploads",
    ("POST", "/tus/"): "resumable uploads",
    ("PATCH", "/tus/{upload_id}"): "resumable uploads",
    ("POST", "/tus/{upload_id}"): "resumable uploads",
    **dict.fromkeys(
        [
            ("PUT", "/objects/{bucket}/{key:path}"), ("POST", "/files/"), ("POST", "/files"), ("POST", "/uploadfile/"),
            ("POST", "/uploadfile"), ("POST", "/uploadfile-html/"), ("POST", "/uploadfile-html"),
            ("POST", "/files/upload_minio"), ("PUT", "/files/upload_minio"),
        ],
        "uploads in progress",
    ),
    ("POST", "/multipart/{id}/complete"): "objects",
    ("POST", "/data"): "loads",
    ("POST", "/users/run"): "loads",
    **dict.fromkeys(
        [
            ("DELETE", "/objects/{bucket}/{key:path}"), ("DELETE", "/multipart/{id}"), ("DELETE", "/tus/{upload_id}"),
            ("DELETE", "/tokens/{id}"), ("DELETE", "/webhooks/{webhook_id}"), ("POST", "/webhooks/{webhook_id}/test"),
            ("POST", "/logout"),
            *((method, path) for method, path in ROUTES if method == "POST" and "gethash" in path),
        ],
        NOTHING,
    ),
}  # fmt: skip
SAFE = {"GET", "HEAD", "OPTIONS"}


def test_every_creating_route_declares_what_ends_with_its_token():
    makers = {way for way in ROUTES if way[0] not in SAFE}
    assert not makers - ENDS.keys(), "say here, and in docs/access.md, whether what these routes make ends"
    assert not ENDS.keys() - set(ROUTES)
    guide = Path("docs/access.md").read_text()
    table = guide.partition("### What ends with a token")[2].partition("\n## ")[0]
    named = re.findall(r"^\| ([^|]+?) +\|", table, re.MULTILINE)
    assert {what for what in ENDS.values() if what != NOTHING} <= set(named)


async def test_open_uploads_of_a_token_end_with_it_and_others_stay(ingress, root):
    token = await made(root, ["write"])
    child_of_root = await made(root, ["write"])
    for one in (token, child_of_root):
        async with ingress.client(one["token"]) as client:
            await client.post("/tus/", headers={**SPOKEN, "upload-length": "9"})
            await client.post("/multipart", json={"key": "lab/a", "size": 9})
    await ingress.ended.remove()
    kinds = (ingress.dependencies.tus, ingress.dependencies.multipart)
    assert [len([one async for one in kind.open()]) for kind in kinds] == [2, 2]
    await root.delete(f"/tokens/{token['id']}")
    assert ingress.ended._token_ended.is_set()
    await ingress.ended.remove()
    owners = [await kind.owner_of(one) for kind in kinds async for one in kind.open()]
    assert owners == [child_of_root["id"]] * 2


async def test_upload_that_a_request_works_on_is_removed_once_that_has_ended(ingress, root, monkeypatch):
    monkeypatch.setattr(tus, "TAKE_OVER_SECONDS", 0.01)
    token = await made(root, ["write"])
    async with ingress.client(token["token"]) as client:
        location = (await client.post("/tus/", headers={**SPOKEN, "upload-length": "9"})).headers["location"]
    number = location.rpartition("/")[2]
    await root.delete(f"/tokens/{token['id']}")
    async with ingress.dependencies.tus._exclusive(number, token["id"]):
        with pytest.raises(Exception, match="another request works"):
            await ingress.ended.remove()
    await ingress.ended.remove()
    assert [one async for one in ingress.dependencies.tus.open()] == []


async def test_uploads_of_one_kind_are_removed_while_another_kind_takes_long(ingress, root, monkeypatch):
    token = await made(root, ["write"])
    async with ingress.client(token["token"]) as client:
        await client.post("/tus/", headers={**SPOKEN, "upload-length": "9"})
        await client.post("/multipart", json={"key": "lab/a", "size": 9})
    never, is_removed, remove = asyncio.Event(), asyncio.Event(), ingress.dependencies.multipart.remove_ended

    async def owner_of(_upload_id):
        await never.wait()

    async def remove_ended(mark):
        await remove(mark)
        is_removed.set()

    monkeypatch.setattr(ingress.dependencies.tus, "owner_of", owner_of)
    monkeypatch.setattr(ingress.dependencies.multipart, "remove_ended", remove_ended)
    await root.delete(f"/tokens/{token['id']}")
    removing = asyncio.create_task(ingress.ended.remove())
    async with asyncio.timeout(10):
        await is_removed.wait()
    assert not removing.done()
    removing.cancel()


async def test_resources_made_without_auth_end_when_auth_is_enabled(ingress, root):
    async with (
        anew := Ingress(settings=ingress.settings.model_copy(update={"auth": "none"}), table=ingress.table)
    ).client(None) as everybody:
        token = await made(everybody)
    await anew.dependencies.tokens.refresh()
    assert not anew.dependencies.tokens.has_ended("everybody")
    after = Ingress(table=ingress.table, store=ingress.store)
    await after.dependencies.tokens.refresh()
    assert after.dependencies.tokens.has_ended("everybody")
    async with after.client(token["token"]) as client:
        assert (await client.get("/whoami")).status_code == 401
    assert (await root.get("/tokens")).json() == []

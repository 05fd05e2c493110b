"""Facts over HTTP, the database in memory: who hears what, from where on, and how it ends."""

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import httpx
import pytest

from services.ingress import handlers
from services.ingress.adapters.feed import Feed
from services.ingress.adapters.permit_pools import limiter
from services.ingress.core.facts import Fact
from services.ingress.core.tokens import Token, generate_token, hash_secret
from services.ingress.routes import events
from shared.errors import Outage
from shared.testing.bus import connected, record, wire
from tests.fakes.facts import MemoryFacts
from tests.fakes.ingress import TOKEN, Ingress, settings

AT = datetime(2026, 1, 2, tzinfo=UTC)


def fact(number, key="a", bucket="inbox", kind="objects.changed.v1", **more):
    body = {"bucket": "inbox", "key": "a", "change": "stored", "size": number}
    return Fact("t", 0, number, f"e{number}", kind, AT, "ingest", bucket, key, body=body, **more)


@asynccontextmanager
async def streaming(ingress, path="/events", token=TOKEN, **headers):
    """Give the list that a stream's frames are added to."""
    frames, over = [], asyncio.Event()
    scope = {
        "type": "http", "method": "GET", "path": path.partition("?")[0], "raw_path": path.partition("?")[0].encode(),
        "query_string": path.partition("?")[2].encode(), "scheme": "http", "asgi": {"version": "3.0"},
        "headers": [(b"authorization", f"Bearer {token}".encode()), (b"host", b"127.0.0.1:8080")]
        + [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        "server": ("127.0.0.1", 8080), "client": ("127.0.0.1", 1), "root_path": "", "http_version": "1.1",
    }  # fmt: skip

    async def receive():
        await over.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        frames.append(message.get("body", b"").decode())

    serving = asyncio.create_task(ingress.app(scope, receive, send))
    try:
        yield frames
    finally:
        over.set()
        await serving


def rendered(frames):
    lines = "".join(frames).split("\n")
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


async def soon(condition):
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for is anybody's
            await asyncio.sleep(0.005)


async def tell(ingress, *facts):
    await ingress.facts.add(facts)
    ingress.dependencies.feed.notify()


def limited(ingress, *places):
    """Return the text of a token that sees these places alone."""
    number, text = generate_token()
    ingress.dependencies.tokens._cache = ingress.dependencies.tokens._cache.with_token(
        Token(number, "limited", hash_secret(text), frozenset({"read"}), AT, "root", places)
    )
    return text


async def test_stream_starts_now_and_sends_new_facts(ingress):
    await tell(ingress, fact(1))
    async with streaming(ingress) as frames:
        await soon(lambda: len(frames) > 1)
        assert frames[1] == "retry: 2000\n: alive\nid: 1\n\n"
        await tell(ingress, fact(2))
        await soon(lambda: rendered(frames))
    (one,) = rendered(frames)
    assert (one["seq"], one["type"], one["summary"]) == (2, "objects.changed.v1", "stored, 2 bytes")


@pytest.mark.parametrize("how", ["header", "query"])
async def test_stream_resumes_after_the_last_event(ingress, how):
    await tell(ingress, *(fact(number) for number in range(1, 300)))
    path, headers = ("/events", {"last_event_id": "7"}) if how == "header" else ("/events?last_event_id=7", {})
    async with streaming(ingress, path, **headers) as frames:
        await soon(lambda: len(rendered(frames)) == 292)
    assert [one["seq"] for one in rendered(frames)] == list(range(8, 300))


async def test_cursor_past_the_end_restarts_from_the_beginning(ingress):
    await tell(ingress, fact(1))
    async with streaming(ingress, last_event_id="99") as frames:
        await soon(lambda: rendered(frames))
    assert [one["seq"] for one in rendered(frames)] == [1]


async def test_stream_is_filtered(ingress):
    async with streaming(ingress, "/events?bucket=inbox&prefix=mine/&type=objects.*,x&correlation_id=c") as frames:
        await soon(lambda: len(frames) > 1)
        wrong = [
            fact(1, "mine/a", "jobs", correlation_id="c"),
            fact(2, "other", correlation_id="c"),
            fact(3, "mine/a", kind="sweeps.completed.v1", correlation_id="c"),
            fact(4, "mine/a"),
        ]
        await tell(ingress, *wrong, fact(5, "mine/a", correlation_id="c"))
        await soon(lambda: rendered(frames))
    assert [one["seq"] for one in rendered(frames)] == [5]


async def test_stream_sends_visible_facts_only(ingress):
    text = limited(ingress, "inbox/mine/")
    await tell(ingress, fact(1, "other"), fact(2, None, None), fact(3, "mine/a"))
    async with streaming(ingress, token=text, last_event_id="0") as frames:
        await soon(lambda: rendered(frames))
    assert [one["seq"] for one in rendered(frames)] == [3]


async def test_stream_ends_when_its_token_is_revoked(ingress, monkeypatch):
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.01)
    text = limited(ingress, "inbox/")
    ingress.dependencies.tokens._is_loaded = True
    async with streaming(ingress, token=text) as frames:
        await soon(lambda: "".join(frames).count(": alive") >= 3)
        ingress.dependencies.tokens._cache = ingress.dependencies.tokens._cache.without(text.split("_")[1])
        await soon(lambda: ingress.dependencies.feed.streams == 0)


async def test_stream_survives_a_database_outage_without_loss(ingress, monkeypatch):
    monkeypatch.setattr(events, "OUTAGE_POLL_SECONDS", 0.01)
    async with streaming(ingress) as frames:
        await soon(lambda: len(frames) > 1)
        ingress.facts.is_away = True
        ingress.dependencies.feed.notify()
        await asyncio.sleep(0)
        ingress.facts.is_away = False
        await tell(ingress, fact(1))
        await soon(lambda: rendered(frames))
    assert len(rendered(frames)) == 1


async def test_stream_ends_at_shutdown_or_disconnect(ingress):
    async with streaming(ingress) as frames, streaming(ingress) as others:
        await soon(lambda: len(frames) > 1 and len(others) > 1)
        ingress.dependencies.feed.close()
        await soon(lambda: ingress.dependencies.feed.streams == 0)
    ingress = Ingress()
    async with streaming(ingress) as frames:
        await soon(lambda: ingress.dependencies.feed.streams == 1)
    assert ingress.dependencies.feed.streams == 0


async def test_stream_beyond_the_limit_is_503_with_retry_after(ingress):
    ingress = Ingress(settings(events_streams=1))
    async with streaming(ingress) as frames:
        await soon(lambda: len(frames) > 1)
        async with ingress.client() as client:
            answer = await client.get("/events")
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "TOO_MANY_STREAMS", "5")


@pytest.mark.parametrize("given", ["x", "-1", "1.5", "9" * 30, "\N{SUPERSCRIPT TWO}"])
async def test_invalid_event_id_is_refused(ingress, given):
    async with ingress.client() as client:
        answer = await client.get("/events", params={"last_event_id": given})
    assert (answer.status_code, answer.json()["code"]) == (422, "BAD_EVENT_ID")


async def test_streams_at_the_same_cursor_share_one_query():
    facts = MemoryFacts()
    await facts.add([fact(number) for number in range(250)])
    feed = Feed(facts, limiter("streams", settings()))
    pages = await asyncio.gather(*(feed.page(0) for _ in range(100)))
    assert (facts.reads, {len(page) for page in pages}) == (1, {100})
    facts.is_away = True
    answers = await asyncio.gather(*(feed.page(0) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(one, Outage) for one in answers)


async def test_disconnect_of_one_stream_does_not_affect_others():
    facts = MemoryFacts()
    await facts.add([fact(1)])
    feed = Feed(facts, limiter("streams", settings()))
    first, second = (asyncio.create_task(feed.page(0)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert len(await second) == 1


async def test_timeline_returns_facts_and_present_state(ingress):
    await tell(ingress, fact(1), fact(2, "other"), fact(3, kind="objects.hashed.v1"))
    ingress.facts.states["inbox", "a"] = {"object": [{"state": "stored"}], "work": [{"queue": "digest"}]}
    async with ingress.client() as client:
        answer = (await client.get("/timeline/inbox/a")).json()
        page = (await client.get("/timeline/inbox/a?limit=1")).json()
        rest = (await client.get(f"/timeline/inbox/a?limit=1&after={page['next']}")).json()
    assert [one["seq"] for one in answer["facts"]] == [1, 3]
    assert (answer["object"], answer["digests"], answer["work"]) == ({"state": "stored"}, [], [{"queue": "digest"}])
    assert [one["seq"] for one in rest["facts"]] == [3]


@pytest.mark.parametrize("path", ["inbox/nothing", "inbox/other", "inbox/a%00b", "nowhere/a"])
async def test_unknown_or_foreign_object_is_404(ingress, path):
    await tell(ingress, fact(1, "other"))
    async with ingress.client(limited(ingress, "inbox/mine/")) as client:
        answer = await client.get(f"/timeline/{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "NO_SUCH_OBJECT")


@pytest.mark.parametrize("path", ["/timeline/inbox/a", "/events"])
async def test_database_outage_is_503(ingress, path):
    ingress.facts.is_away = True
    async with ingress.client() as client:
        answer = await client.get(path)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


@pytest.fixture
async def consuming():
    wired, facts = wire(settings(), handlers.router), MemoryFacts()
    wired.attach(facts=facts)
    async with connected(wired):
        yield wired, facts


async def test_fact_that_postgres_rejects_is_skipped_alone(consuming):
    wired, facts = consuming
    values = [b'{"n": %d}' % number for number in range(20)]
    values[7] = b'"refused"'
    await wired.deliver(*(record("objects.changed.v1", value) for value in [*values, None, b"", b"{"]))
    assert [one.body["n"] for one in facts.stored] == [number for number in range(20) if number != 7]
    assert wired.recorder.dead_letters() == []


async def test_dead_letter_of_any_bytes_is_not_dead_lettered_again(consuming):
    wired, facts = consuming
    hostile = [("dlq_reason", b"\xff"), ("\udc80", b"x"), ("ce_id", b"\x00")]
    values = [b"\x00", None, b"", b"[" * 50_000]
    await wired.deliver(*(record("objects.changed.v1.hasher.dlq", one, headers=hostile) for one in values))
    assert len(facts.stored) == 4
    assert wired.recorder.dead_letters() == []


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_webhooks_need_the_admin_scope(ingress, method):
    async with ingress.client(limited(ingress)) as client:
        answer = await client.request(method, "/webhooks", json={"url": "https://example.org/"})
    assert (answer.status_code, answer.json()["code"]) == (403, "WRONG_SCOPE")


def resolving(monkeypatch, *addresses):
    async def getaddrinfo(_loop, _host, port, **_):
        return [(2, 1, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(type(asyncio.get_running_loop()), "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::ffff:169.254.169.254"]])
async def test_webhook_name_with_any_private_address_is_refused(ingress, monkeypatch, addresses):
    resolving(monkeypatch, *addresses)
    async with ingress.client() as client:
        answer = await client.post("/webhooks", json={"url": "https://hook.example/"})
    assert (answer.status_code, answer.json()["code"]) == (422, "TARGET_NOT_ALLOWED")
    assert await ingress.dependencies.webhooks.all(None) == []


async def test_delivery_connects_to_the_checked_address_with_the_given_host(ingress, monkeypatch):
    resolving(monkeypatch, "8.8.8.8")
    sent = []

    def answer(request):
        sent.append(request)
        return httpx.Response(302, headers={"location": "http://127.0.0.1/"})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        outcome = await ingress.dependencies.sender.send(
            client, "1", "https://hook.example:8443/x?y=1", {"topic": "t", "event_id": "e", "type": "t"}
        )
    assert (outcome.status, outcome.error) == (302, "it answered 302")
    (request,) = sent
    assert str(request.url) == "https://8.8.8.8:8443/x?y=1"
    assert request.headers["host"] == "hook.example:8443"
    assert request.extensions["sni_hostname"] == "hook.example"


@pytest.mark.parametrize(
    "failure", [httpx.ConnectError("refused"), RuntimeError("odd"), TimeoutError(), OSError("gone")]
)
async def test_delivery_error_becomes_the_outcome(ingress, monkeypatch, failure):
    resolving(monkeypatch, "8.8.8.8")

    def fail(_request):
        raise failure

    async with httpx.AsyncClient(transport=httpx.MockTransport(fail)) as client:
        outcome = await ingress.dependencies.sender.send(
            client, "1", "http://hook.example/", {"topic": "t", "event_id": "e", "type": "t"}
        )
    assert (outcome.status, bool(outcome.error), outcome.gone) == (None, True, False)


async def test_webhook_is_created_listed_and_deleted_with_its_secret_shown_once(ingress, monkeypatch):
    resolving(monkeypatch, "8.8.8.8")
    async with ingress.client() as client:
        made = (await client.post("/webhooks", json={"url": "https://hook.example/", "types": ["objects.*"]})).json()
        (listed,) = (await client.get("/webhooks")).json()
        assert made.pop("secret") == ingress.dependencies.sender.secret(made["id"])
        assert listed == made == (await client.get(f"/webhooks/{made['id']}")).json()
        assert (await client.delete(f"/webhooks/{made['id']}")).status_code == 204
        assert (await client.get(f"/webhooks/{made['id']}")).status_code == 404


@pytest.mark.parametrize(
    "asked", [{}, {"url": 7}, {"url": "https://x/", "more": 1}, {"url": "https://x/", "bucket": "\x00"}]
)
async def test_webhook_that_cannot_be_is_refused(ingress, asked):
    async with ingress.client() as client:
        assert (await client.post("/webhooks", json=asked)).status_code == 422


async def test_webhook_without_secret_key_is_refused():
    ingress = Ingress(settings(auth="none", secret_key=""))
    async with asyncio.timeout(10), ingress.client() as client:
        answer = await client.post("/webhooks", json={"url": "https://hook.example/"})
    assert answer.json()["code"] == "NO_SECRET_KEY"

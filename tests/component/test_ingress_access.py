"""Who may do what over HTTP: every route, tokens, sessions, other sites, rates; the database in memory."""

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
import structlog
from starlette.routing import Mount

from services.ingress.core.sessions import RENEW_AFTER
from services.ingress.routes.auth_middleware import FAILURES_AT_ONCE, is_public_path
from tests.fakes.ingress import TOKEN, Ingress, settings
from tests.fakes.tokens import MemoryTokenTable

HTML = {"accept": "text/html,application/xhtml+xml"}
READER = {"name": "reader", "scopes": ["read"]}
WRITER = {"name": "writer", "scopes": ["write"]}
COOKIE = "penstock_session"


@pytest.fixture
async def root(ingress):
    await ingress.dependencies.tokens.refresh()
    async with ingress.client() as client:
        yield client


@pytest.fixture
async def anonymous(ingress):
    async with ingress.client(None) as client:
        yield client


@pytest.fixture
async def browser(ingress):
    """A browser that was logged in by the form, with the first token."""
    async with ingress.client(None) as client:
        await client.post("/login", data={"token": TOKEN})
        yield client


def leaves(routes):
    """Every route, those of included routers too; FastAPI keeps a router as it was included."""
    for route in routes:
        inner = getattr(route, "original_router", None)
        yield from leaves(inner.routes) if inner else (route,)


def routes():
    for route in leaves(Ingress().app.routes):
        path = re.sub(r"{[^}]*}", "x", route.path)
        for method in sorted(getattr(route, "methods", None) or {"GET"}):
            yield pytest.param(method, path + ("/x" if isinstance(route, Mount) else ""), id=f"{method} {path}")


def test_route_walk_finds_every_module():
    assert {"/objects/{bucket}/{key:path}", "/tokens/{id}", "/login", "/openapi.json"} <= {
        route.path for route in leaves(Ingress().app.routes)
    }


async def made(client, **fields):
    answer = await client.post("/tokens", json={**READER, **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


def csrf(ingress, client):
    sessions = ingress.dependencies.sessions
    return sessions.csrf_token(sessions.unsign(client.cookies[COOKIE]))


# every route


@pytest.fixture(scope="module")
def closed():
    return Ingress()


@pytest.mark.parametrize(("method", "path"), [*routes()])
async def test_without_token_only_public_routes_answer(closed, method, path):
    async with closed.client(None) as anonymous:
        answer = await anonymous.request(method, path)
    if is_public_path(path):
        assert answer.status_code not in {401, 500}
    else:
        assert answer.status_code == 401
        assert method == "HEAD" or answer.json()["code"] == "NO_TOKEN"
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_open_ones_are_these():
    paths = {route.path for route in leaves(Ingress().app.routes)}
    assert {path for path in paths if is_public_path(path)} - {"/static"} == {
        "/health",
        "/health/live",
        "/metrics",
        "/login",
    }


@pytest.mark.parametrize("path", ["/login/", "/login/links", "/healthz", "/metrics/x", "//health"])
async def test_paths_resembling_public_ones_need_a_token(anonymous, path):
    assert not is_public_path(path)
    assert (await anonymous.post(path)).status_code == 401


async def test_unauthenticated_request_to_unknown_path_is_401(anonymous):
    assert (await anonymous.get("/no/such/route")).status_code == 401


# tokens


async def test_token_is_limited_to_its_scopes(ingress, root):
    token = (await made(root, **WRITER))["token"]
    async with ingress.client(token) as writer:
        assert (await writer.put("/objects/inbox/a", content=b"x")).status_code == 201
        refused = await writer.get("/tokens")
    assert (refused.status_code, refused.json()["code"]) == (403, "WRONG_SCOPE")
    assert "www-authenticate" not in refused.headers


async def test_token_is_accepted_in_the_query(root, anonymous):
    token = (await made(root))["token"]
    answer = await anonymous.get("/whoami", params={"token": token})
    assert (answer.status_code, answer.json()["name"]) == (200, "reader")


async def test_whoami_returns_the_callers_rights(ingress, root):
    token = (await made(root, places=["inbox/lab/"], rate=7))["token"]
    async with ingress.client(token) as client:
        me = (await client.get("/whoami")).json()
    assert (me["name"], me["scopes"], me["places"], me["rate"]) == ("reader", ["read"], ["inbox/lab/"], 7)
    assert (await root.get("/whoami")).json()["rate"] == ingress.settings.rate_limit


async def test_foreign_prefix_does_not_exist_for_a_token(ingress, root):
    token = (await made(root, **WRITER, places=["inbox/lab/"]))["token"]
    async with ingress.client(token) as client:
        answers = [await client.put(f"/objects/inbox/{key}", content=b"x") for key in ("lab/a", "other/a", "labor")]
    assert [answer.status_code for answer in answers] == [201, 404, 404]


async def test_token_text_is_returned_once_and_not_stored(ingress, root):
    token = await made(root)
    listed = (await root.get("/tokens")).text
    assert token["token"] not in listed
    assert "hash" not in listed
    assert token["token"] not in repr(ingress.table.tokens)
    assert token["token"].rpartition("_")[2] not in repr(ingress.table.tokens)


async def test_revoked_token_is_refused_at_once_and_its_name_is_free(ingress, root):
    token = await made(root)
    async with ingress.client(token["token"]) as client:
        assert (await client.get("/whoami")).status_code == 200
        assert (await root.delete(f"/tokens/{token['id']}")).status_code == 204
        refused = await client.get("/whoami")
    assert (refused.status_code, refused.json()["code"]) == (401, "BAD_TOKEN")
    assert (await root.delete(f"/tokens/{token['id']}")).json()["code"] == "NO_SUCH_TOKEN"
    assert (await made(root))["id"] != token["id"]


async def test_name_is_taken_once(root):
    await made(root)
    answer = await root.post("/tokens", json=READER)
    assert (answer.status_code, answer.json()["code"]) == (409, "NAME_TAKEN")


async def test_expired_token_is_refused(ingress, root):
    token = await made(root, expires_in=3600)
    stored = ingress.table.tokens[token["id"]]
    assert timedelta(minutes=59) < stored.expires_at - datetime.now(UTC) <= timedelta(hours=1)
    short = await made(root, name="short", expires_in=1e-6)
    async with ingress.client(short["token"]) as client:
        assert (await client.get("/whoami")).json()["code"] == "BAD_TOKEN"


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "a b"},
        {"name": "root"},
        {"scopes": []},
        {"scopes": ["all"]},
        {"places": ["inbox"]},
        {"places": ["/inbox/"]},
        {"rate": 0},
        {"rate": -1},
        {"expires_in": 0},
        {"hash": "x"},
    ],
)
async def test_token_that_cannot_be_is_refused(ingress, root, wrong):
    answer = await root.post("/tokens", json={**READER, **wrong})
    assert (answer.status_code, answer.json()["code"]) == (422, "BAD_REQUEST")
    assert ingress.table.tokens == {}


async def test_token_with_more_prefixes_than_its_maker_is_refused(ingress, root):
    local = await made(root, name="local", scopes=["admin"], places=["inbox/lab/"])
    async with ingress.client(local["token"]) as client:
        assert (await client.post("/tokens", json=READER)).json()["code"] == "WRONG_PLACE"
        assert (await client.post("/tokens", json={**READER, "places": ["inbox/"]})).status_code == 403
        assert (await client.post("/tokens", json={**READER, "places": ["inbox/lab/x/"]})).status_code == 201


async def test_known_tokens_are_valid_during_a_database_outage(ingress, root):
    token = await made(root, **WRITER)
    await ingress.dependencies.tokens.refresh()
    ingress.table.is_away = True
    async with ingress.client(token["token"]) as client:
        assert (await client.put("/objects/inbox/a", content=b"x")).status_code == 201
        assert (await client.get("/whoami", headers={"authorization": "Bearer pst_1_2"})).status_code == 401
    away = await root.get("/tokens")
    assert (away.status_code, away.headers["retry-after"]) == (503, "5")


async def test_tokens_not_loaded_yet_give_503_instead_of_401(ingress, anonymous):
    ingress.table.is_away = True
    answer = await anonymous.get("/whoami", params={"token": "pst_1_2"})
    assert (answer.status_code, answer.json()["code"]) == (503, "SERVICE_UNAVAILABLE")


async def test_token_changes_reach_other_processes():
    table = MemoryTokenTable()
    here, there = Ingress(table=table), Ingress(table=table)
    async with here.client() as root:
        token = await made(root)
        await there.dependencies.tokens.refresh()
        async with there.client(token["token"]) as client:
            assert (await client.get("/whoami")).status_code == 200
            await root.delete(f"/tokens/{token['id']}")
            await there.dependencies.tokens.refresh()
            assert (await client.get("/whoami")).status_code == 401


async def test_answer_of_the_database_that_a_change_overtook_is_not_believed(ingress, root, monkeypatch):
    token = await made(root)
    tokens, stored = ingress.dependencies.tokens, ingress.table.load

    async def slow():
        answer = await stored()
        monkeypatch.undo()
        await tokens.revoke(token["id"])
        return answer

    monkeypatch.setattr(ingress.table, "load", slow)
    await tokens.refresh()
    assert await tokens.authenticate(token["token"]) is None


async def test_when_a_token_was_used_is_written_down_later(ingress, root, monkeypatch):
    token = await made(root)
    async with ingress.client(token["token"]) as client:
        await client.get("/whoami")
    await ingress.dependencies.tokens.refresh()
    assert ingress.table.tokens[token["id"]].last_used_at is None
    monkeypatch.setattr("services.ingress.adapters.tokens.USED_SECONDS", -1)
    await ingress.dependencies.tokens.refresh()
    assert ingress.table.tokens[token["id"]].last_used_at is not None


# browsers


async def test_browser_without_a_session_is_sent_to_the_login_page_and_back(anonymous):
    sent = await anonymous.get("/whoami?a=b", headers=HTML)
    assert sent.status_code == 303
    where = urlsplit(sent.headers["location"])
    assert (where.netloc, where.path, parse_qs(where.query)) == ("", "/login", {"next": ["/whoami?a=b"]})
    page = await anonymous.get(sent.headers["location"], headers=HTML)
    assert page.status_code == 200
    assert 'value="/whoami?a=b"' in page.text
    back = await anonymous.post("/login", data={"token": TOKEN, "next": "/whoami?a=b"})
    assert (back.status_code, back.headers["location"]) == (303, "/whoami?a=b")
    assert (await anonymous.get("/whoami", headers=HTML)).json()["name"] == "root"


async def test_cookie_is_out_of_reach_of_scripts_and_other_sites(anonymous):
    answer = await anonymous.post("/login", data={"token": TOKEN})
    reported = answer.headers["set-cookie"].lower()
    assert all(word in reported for word in ("httponly", "samesite=lax", "path=/", "max-age=43200"))
    assert "secure" not in reported
    assert TOKEN not in reported


async def test_cookie_is_secure_with_https():
    ingress = Ingress(settings=settings(http_url="https://penstock.example"))
    async with ingress.client(None) as client:
        reported = (await client.post("/login", data={"token": TOKEN})).headers["set-cookie"]
    assert reported.startswith("__Host-penstock_session=")
    assert "secure" in reported.lower()


async def test_wrong_token_shows_an_error_and_no_session(anonymous):
    answer = await anonymous.post("/login", data={"token": '"><script>', "next": '"><script>'})
    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
    assert "not known" in answer.text
    assert "<script>" not in answer.text


@pytest.mark.parametrize("to", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"])
async def test_redirect_to_another_site_is_refused(root, anonymous, to):
    assert (await anonymous.post("/login", data={"token": TOKEN, "next": to})).headers["location"] == "/"
    code = parse_qs(urlsplit((await root.post("/login/links")).json()["url"]).query)["code"][0]
    assert (await anonymous.get("/login", params={"code": code, "next": to})).headers["location"] == "/"


async def test_link_logs_one_browser_in_once(ingress, root, anonymous):
    made = await root.post("/login/links")
    url = made.json()["url"]
    assert (made.status_code, url.split("?")[0]) == (201, "http://127.0.0.1:8080/login")
    code = parse_qs(urlsplit(url).query)["code"][0]
    assert code not in repr(ingress.table.links)
    first = await anonymous.get(url, headers=HTML)
    assert (first.status_code, first.headers["location"]) == (303, "/")
    assert (await anonymous.get("/whoami")).json()["name"] == "root"
    async with ingress.client(None) as late:
        second = await late.get(url, headers=HTML)
        assert (second.status_code, "set-cookie" in second.headers) == (403, False)
        assert (await late.get("/whoami")).status_code == 401


async def test_link_that_was_made_under_another_first_token_is_worth_nothing(ingress, root):
    url = (await root.post("/login/links")).json()["url"]
    after = Ingress(settings=settings(token="another-first-token"), table=ingress.table)
    async with after.client(None) as late:
        assert (await late.get(url)).status_code == 403
    async with ingress.client(None) as browser:
        assert (await browser.get(url)).status_code == 303


async def test_login_link_logs_in_as_its_maker(ingress, root, anonymous):
    boss = await made(root, name="boss", scopes=["admin"])
    async with ingress.client(boss["token"]) as client:
        url = (await client.post("/login/links")).json()["url"]
    await anonymous.get(url)
    assert (await anonymous.get("/whoami")).json()["name"] == "boss"
    async with ingress.client((await made(root))["token"]) as client:
        assert (await client.post("/login/links")).status_code == 403


async def test_session_ends_with_its_token(root, anonymous):
    token = await made(root)
    await anonymous.post("/login", data={"token": token["token"]})
    assert (await anonymous.get("/whoami")).status_code == 200
    await root.delete(f"/tokens/{token['id']}")
    assert (await anonymous.get("/whoami")).status_code == 401
    assert (await anonymous.get("/whoami", headers=HTML)).status_code == 303


@pytest.mark.parametrize("is_away", [False, True])
async def test_logout_invalidates_every_copy_of_the_cookie(ingress, browser, is_away):
    copy = browser.cookies[COOKIE]
    ingress.table.is_away = is_away
    left = await browser.post("/logout", headers={"x-csrf-token": csrf(ingress, browser)})
    assert (left.status_code, left.headers["location"]) == (303, "/login")
    assert COOKIE not in browser.cookies
    ingress.table.is_away = False
    await ingress.dependencies.tokens.refresh()
    assert (await browser.get("/whoami", headers={"cookie": f"{COOKIE}={copy}"})).status_code == 401
    there = Ingress(table=ingress.table)
    await there.dependencies.tokens.refresh()
    async with there.client(None) as other:
        assert (await other.get("/whoami", headers={"cookie": f"{COOKIE}={copy}"})).status_code == 401


async def test_active_session_gets_a_renewed_cookie(browser, monkeypatch):
    assert "set-cookie" not in (await browser.get("/whoami")).headers
    later = datetime.now(UTC) + RENEW_AFTER + timedelta(seconds=2)
    monkeypatch.setattr(
        "services.ingress.routes.auth_middleware.datetime", type("Later", (), {"now": lambda _zone: later})
    )
    answer = await browser.get("/whoami")
    assert answer.headers["set-cookie"].startswith(f"{COOKIE}=")


# changes that another site asks for


@pytest.mark.parametrize("way", ["header", "query", "form"])
async def test_change_by_cookie_needs_a_csrf_token(ingress, browser, way):
    proof = csrf(ingress, browser)
    for value, status in (("", 403), ("wrong", 403), (proof, 303)):
        answer = await browser.post(
            "/logout",
            headers={"x-csrf-token": value} if way == "header" else {},
            params={"csrf": value} if way == "query" else {},
            data={"csrf": value} if way == "form" else None,
        )
        assert answer.status_code == status, (way, value)
        assert status == 303 or answer.json()["code"] == "BAD_CSRF"


async def test_upload_by_cookie_needs_it_too_and_its_body_is_not_read_for_it(ingress, browser):
    async def body():
        yield b"hello"

    put = "/objects/inbox/a"
    assert (await browser.put(put, content=b"hello")).json()["code"] == "BAD_CSRF"
    answer = await browser.put(f"{put}?csrf={csrf(ingress, browser)}", content=body(), headers={"content-length": "5"})
    assert answer.status_code == 201


async def test_form_read_by_the_middleware_still_reaches_its_route(ingress, browser):
    kind = {"content-type": "application/x-www-form-urlencoded"}
    body = f"csrf={csrf(ingress, browser)}"
    assert (await browser.put("/objects/inbox/form", content=body, headers=kind)).status_code == 201
    assert [info.size async for page in ingress.store.list("inbox") for info in page] == [len(body)]


async def test_form_without_csrf_token_is_read_up_to_a_limit(browser):
    kind = {"content-type": "application/x-www-form-urlencoded"}
    answer = await browser.post("/logout", content=b"a" * (65 << 10), headers=kind)
    assert (answer.status_code, answer.json()["code"]) == (413, "TOO_LARGE")
    answer = await browser.post("/logout", content=b"a&" * 200, headers=kind)
    assert (answer.status_code, answer.json()["code"]) == (400, "BROKEN_BODY")


async def test_request_with_bearer_token_needs_no_csrf_token(browser):
    answer = await browser.put("/objects/inbox/a", content=b"x", headers={"authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 201


FOREIGN = [
    {"sec-fetch-site": "cross-site"},
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:3000"},
]


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize("path", ["/login", "/logout", "/tokens", "/login/links"])
async def test_cross_site_change_is_refused(ingress, root, path, headers):
    answer = await root.post(path, headers=headers, data={"token": TOKEN})
    assert (answer.status_code, answer.json()["code"]) == (403, "CROSS_SITE")
    assert "set-cookie" not in answer.headers
    assert ingress.table.tokens == ingress.table.links == {}


async def test_own_pages_may_change_objects(root):
    own = {"sec-fetch-site": "same-origin", "origin": "http://127.0.0.1:8080"}
    assert (await root.post("/login/links", headers=own)).status_code == 201


# no tokens at all


async def test_auth_none_accepts_local_host_names_only():
    ingress = Ingress(settings=settings(auth="none", token="", secret_key=""))
    async with ingress.client(None) as client:
        assert (await client.put("/objects/inbox/a", content=b"x")).status_code == 201
        assert (await client.get("/whoami")).json()["name"] == "everybody"
        assert (await client.get("/login", headers=HTML)).headers["location"] == "/"
        assert (await client.post("/login/links")).json() == {"url": "http://127.0.0.1:8080/"}
        foreign = await client.put("/objects/inbox/a", content=b"x", headers={"origin": "https://evil.example"})
        assert (foreign.status_code, foreign.json()["code"]) == (403, "CROSS_SITE")
        rebound = await client.get("/whoami", headers={"host": "evil.example"})
        assert (rebound.status_code, rebound.json()["code"]) == (421, "WRONG_HOST")


# rates


async def test_rate_limited_token_does_not_affect_others(ingress, root):
    fast, calm = await made(root, rate=3), await made(root, name="calm")
    async with ingress.client(fast["token"]) as client:
        answers = [await client.get("/whoami") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[-1].json()["code"] == "TOO_MANY_REQUESTS"
    assert int(answers[-1].headers["retry-after"]) >= 1
    async with ingress.client(calm["token"]) as client:
        assert (await client.get("/whoami")).status_code == 200


async def test_usual_rate_is_that_of_the_settings():
    ingress = Ingress(settings=settings(rate_limit=2))
    async with ingress.client() as client:
        assert [(await client.get("/whoami")).status_code for _ in range(3)] == [200, 200, 429]
        ingress.now += 0.5
        assert [(await client.get("/whoami")).status_code for _ in range(2)] == [200, 429]


async def test_failed_logins_are_limited_and_valid_tokens_are_not(root, anonymous):
    attempts = [await anonymous.get("/whoami?token=guess") for _ in range(int(FAILURES_AT_ONCE) + 1)]
    assert [answer.status_code for answer in attempts[:-1]] == [401] * int(FAILURES_AT_ONCE)
    assert attempts[-1].status_code == 429
    assert (await anonymous.post("/login", data={"token": "guess"})).status_code == 429
    assert (await root.get("/whoami")).status_code == 200


# who did it


async def test_audit_log_names_the_principal_and_no_secret(ingress, root, anonymous):
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        token = await made(root, **WRITER)
        async with ingress.client(token["token"]) as client:
            await client.put("/objects/inbox/a", content=b"x")
        url = (await root.post("/login/links")).json()["url"]
        await anonymous.get(url)
        await anonymous.get(url)
        await anonymous.post("/logout", params={"csrf": csrf(ingress, anonymous)})
        await root.delete(f"/tokens/{token['id']}")
    reported = {line["event"]: line["by"] for line in lines if line["event"].startswith("audit.")}
    assert reported == {
        "audit.token_created": "root",
        "audit.object_stored": "writer",
        "audit.login_link_created": "root",
        "audit.logged_in": "root",
        "audit.login_failed": "?",
        "audit.logged_out": "root",
        "audit.token_revoked": "root",
    }
    assert all(secret not in repr(lines) for secret in (token["token"], TOKEN, url.partition("=")[2]))


async def test_principal_does_not_leak_into_the_next_requests_log(root):
    await root.get("/whoami")
    assert "by" not in structlog.contextvars.get_contextvars()

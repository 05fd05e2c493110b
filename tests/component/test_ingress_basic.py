"""Basic credentials with the token as password: for programs that take an address and nothing else, never browsers."""

import base64

import httpx
import pytest

from services.ingress.core.access import Principal
from tests.fakes.ingress import TOKEN, Ingress

FORM = {"content-type": "application/x-www-form-urlencoded"}
BROWSERS = [
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:8080"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-origin"},
    {"referer": "http://evil.example/"},
]


def basic(password, user="anybody"):
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture
async def client():
    async with Ingress().client(None) as client:
        yield client


@pytest.mark.parametrize("user", ["", "user", "a b"])
async def test_basic_password_is_the_token_for_any_user(client, user):
    answer = await client.get("/whoami", headers=basic(TOKEN, user))
    assert (answer.status_code, answer.json()["name"]) == (200, "root")
    stored = await client.put("/objects/inbox/a", content=b"x", headers=basic(TOKEN, user))
    assert stored.status_code == 201


async def test_address_with_a_token_is_enough_for_old_clients():
    transport = httpx.ASGITransport(Ingress().app)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://user:{TOKEN}@127.0.0.1:8080") as client:
        answer = await client.post("/uploadfile/", files={"file": ("a.txt", b"x")})
    assert (answer.status_code, answer.json()["success"]) == (200, True)


@pytest.mark.parametrize("sent", ["Basic", "Basic !!!", "Basic dXNlcg==", "Basic /w==", "Basic dXNlcjo="])
async def test_credentials_without_a_password_are_none(client, sent):
    answer = await client.get("/whoami", headers={"authorization": sent})
    assert (answer.status_code, answer.json()["code"]) == (401, "NO_TOKEN")


async def test_wrong_password_is_a_wrong_token(client):
    answer = await client.get("/whoami", headers=basic("wrong"))
    assert (answer.status_code, answer.json()["code"]) == (401, "BAD_TOKEN")


@pytest.mark.parametrize("path", ["/", "/whoami", "/files/", "/login", "/objects/inbox/a", "/nothing"])
@pytest.mark.parametrize(
    "headers", [{}, {"accept": "text/html"}, basic("wrong"), basic("wrong") | {"accept": "text/html"}]
)
async def test_responses_never_challenge_for_basic(client, path, headers):
    """A browser that is asked keeps them, and sends them with whatever another site lets it send."""
    answer = await client.get(path, headers=headers)
    assert "basic" not in answer.headers.get("www-authenticate", "").lower()


@pytest.mark.parametrize("marks", BROWSERS)
@pytest.mark.parametrize(("method", "path"), [("POST", "/tokens"), ("POST", "/data"), ("POST", "/logout")])
async def test_browser_changes_nothing_by_basic_credentials(client, method, path, marks):
    answer = await client.request(method, path, headers={**basic(TOKEN), **FORM, **marks}, content=b"a=b")
    assert (answer.status_code, answer.json()["code"]) == (403, "CROSS_SITE")


async def test_form_of_another_site_stores_nothing():
    ingress = Ingress()
    async with ingress.client(None) as client:
        answer = await client.post(
            "/files/", files={"file": ("a", b"x")}, headers={**basic(TOKEN), "origin": "http://evil.example"}
        )
    assert answer.status_code == 403
    assert [info async for page in ingress.store.list("inbox") for info in page] == []


async def test_basic_has_the_rights_of_its_token_only():
    ingress = Ingress()

    async def restricted(_secret):
        return Principal("1", "me", frozenset({"read"}), ("inbox/mine/",))

    ingress.dependencies.tokens.authenticate = restricted
    async with ingress.client(None) as client:
        answer = await client.put("/objects/inbox/a", content=b"x", headers=basic("mine"))
    assert (answer.status_code, answer.json()["code"]) == (403, "WRONG_SCOPE")

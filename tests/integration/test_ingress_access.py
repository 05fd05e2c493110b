"""Who may do what, on real servers: tokens in Postgres, two processes, an outage, a crowd, and what is told of it."""

import contextlib
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from deploy.native import ports
from services.ingress.app import sessions_of
from services.ingress.settings import IngressSettings
from tests.support import ingress
from tests.support.waiting import until

pytestmark = pytest.mark.integration

CROWD = 400
KEYS = ("token", "secret_key", "http_url")


@pytest.fixture
def root(system):
    ingress.serve(system)
    with ingress.client(system) as client:
        yield client


@pytest.fixture
def make(root):
    """Make tokens, and revoke them after the test."""
    made_ids = []

    def making(name, *scopes, **fields):
        answer = root.post("/tokens", json={"name": name, "scopes": scopes, **fields})
        assert answer.status_code == 201, answer.text
        made_ids.append(answer.json()["id"])
        return answer.json()

    yield making
    for one in made_ids:
        root.delete(f"/tokens/{one}")


def comes_in(system, token, path="/whoami", **options):
    with ingress.client(system, token, **options) as client:
        return client.get(path).status_code


def logged_in(system, root):
    """Return the cookies of a browser that followed a link."""
    with ingress.client(system, None) as browser:
        browser.get(root.post("/login/links").json()["url"])
        return dict(browser.cookies)


@contextlib.contextmanager
def second_ingress(system, port):
    system.serve("ingress", 2, http_port=port)
    try:
        yield
    finally:
        system.stop("ingress-2")


def log_lines(system):
    for line in system.stack.logs("ingress").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            yield json.loads(line)


def test_a_token_is_made_used_and_revoked(system, root, make):
    token = make("reader", "read", "write", places=[f"inbox/{system.prefix}"])
    with ingress.client(system, token["token"]) as client:
        assert client.get("/whoami").json()["name"] == "reader"
        assert client.put(f"/objects/inbox/{system.prefix}mine", content=b"x").status_code == 201
        assert client.put("/objects/inbox/others", content=b"x").status_code == 404
        assert client.get("/tokens").status_code == 403
        assert [one["name"] for one in root.get("/tokens").json()] == ["reader"]
        assert root.delete(f"/tokens/{token['id']}").status_code == 204
        assert client.get("/whoami").status_code == 401
    assert root.get("/tokens").json() == []


def test_a_token_ends_at_its_time(system, make):
    token = make("brief", "read", expires_in=3600)
    assert comes_in(system, token["token"]) == 200
    ingress.expire(system, token)
    until(lambda: comes_in(system, token["token"]) == 401, 10, "the end of the token")
    make("brief", "read")


def test_a_name_is_taken_by_one_of_two_who_ask_at_once(root):
    fields = {"name": "raced", "scopes": ["read"]}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: root.post("/tokens", json=fields), range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    (made,) = (answer.json() for answer in answers if answer.status_code == 201)
    root.delete(f"/tokens/{made['id']}")


def test_the_database_has_no_token_and_no_code(system, root, make):
    token = make("kept", "read")
    code = root.post("/login/links").json()["url"].rpartition("=")[2]
    assert system.database.holding([token["token"], token["token"].split("_", 2)[2], code]) == []
    assert system.database.holding(["kept"]) == ["ingress.tokens"]


def test_a_token_of_one_process_holds_in_another_and_ends_there_within_five_seconds(system, root, make):
    (port,) = ports.pick(1)
    there = f"http://127.0.0.1:{port}/whoami"
    token = make("both", "read")
    with second_ingress(system, port):
        assert comes_in(system, token["token"], there) == 200
        root.delete(f"/tokens/{token['id']}")
        assert comes_in(system, token["token"]) == 401
        until(lambda: comes_in(system, token["token"], there) == 401, 5, "it is revoked there")


def test_a_link_logs_in_once_of_many_who_try(system, root):
    url = root.post("/login/links").json()["url"]

    def follow(_):
        with ingress.client(system, None) as browser:
            return browser.get(url).status_code, browser.get("/whoami").status_code

    with ThreadPoolExecutor(8) as pool:
        answers = sorted(pool.map(follow, range(8)))
    assert answers == [(303, 200)] + [(403, 401)] * 7


def test_a_session_that_was_ended_stays_so_after_a_restart_and_others_go_on(system, root):
    made_ids, ended = (logged_in(system, root) for _ in range(2))
    sessions = sessions_of(IngressSettings(**{name: system.stack.env[f"PENSTOCK_{name.upper()}"] for name in KEYS}))
    proof = sessions.csrf_token(sessions.unsign(ended["penstock_session"]))
    with ingress.client(system, None, cookies=ended) as browser:
        assert browser.post("/logout").json()["code"] == "BAD_CSRF"
        assert browser.post("/logout", data={"csrf": proof}).status_code == 303
    assert comes_in(system, None, cookies=ended) == 401
    system.stack.restart("ingress")
    until(lambda: comes_in(system, None, cookies=ended) == 401, 5, "what had ended is read")
    assert comes_in(system, None, cookies=made_ids) == 200


def test_what_is_known_goes_on_without_the_database(system, root, make):
    token = make("robust", "write")
    with system.without("postgres"), ingress.client(system, token["token"]) as client:
        assert client.put(f"/objects/inbox/{system.prefix}a", content=b"x").status_code == 201
        assert comes_in(system, "pst_0123456789abcdef_wrong") == 401
        began = time.monotonic()
        answer = root.get("/tokens")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert root.post("/login/links").status_code == 503
        assert time.monotonic() - began < 8
    until(lambda: root.get("/tokens").status_code == 200, 20, "the database is back")
    assert comes_in(system, token["token"]) == 200


def test_one_who_sends_too_much_is_told_when_to_come_again_and_others_never_notice(system, make):
    crowd, calm = make("crowd", "read", rate=20), make("calm", "read")
    with ingress.client(system, crowd["token"]) as many, ingress.client(system, calm["token"]) as one:
        with ThreadPoolExecutor(16) as pool:
            asked = [pool.submit(many.get, "/whoami") for _ in range(CROWD)]
            others = [one.get("/whoami").status_code for _ in range(50)]
        answers = [each.result() for each in asked]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.status_code for answer in answers} == {200, 429}
    assert len(refused) > CROWD / 2
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert set(others) == {200}


def test_with_auth_none_clients_come_as_they_are_and_pages_of_others_do_not(system):
    ingress.serve(system, auth="none", token="", secret_key="")
    with ingress.client(system, None) as client:
        assert client.put(f"/objects/inbox/{system.prefix}open", content=b"x").status_code == 201
        assert client.get("/whoami", headers={"host": "localhost"}).json()["name"] == "everybody"
        assert client.get("/whoami", headers={"host": "evil.example"}).status_code == 421
        assert (
            client.put("/objects/inbox/a", content=b"x", headers={"origin": "https://evil.example"}).status_code == 403
        )


def test_every_change_is_in_the_log_with_who_did_it_and_no_secret(system, root, make):
    token = make("told", "write")
    with ingress.client(system, token["token"]) as client:
        client.put(f"/objects/inbox/{system.prefix}told", content=b"x")
    root.delete(f"/tokens/{token['id']}")
    lines = [line for line in log_lines(system) if str(line.get("event", "")).startswith("audit.")]
    assert {(line["event"], line["by"]) for line in lines if "told" in line.values()} >= {
        ("audit.token_created", "root"),
        ("audit.token_revoked", "root"),
    }
    assert ("audit.object_stored", "told") in {(line["event"], line.get("by")) for line in lines}
    assert all("by" in line for line in lines)
    text = system.stack.logs("ingress")
    assert token["token"] not in text
    assert system.stack.env["PENSTOCK_TOKEN"] not in text

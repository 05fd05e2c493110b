"""What stays until somebody removes it is bounded for each token: rows and open uploads."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from services.ingress.core import quotas
from tests.support import ingress
from tests.support.crowd import token

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
TUS = {"tus-resumable": "1.0.0", "upload-length": "10"}


@pytest.fixture
def greedy(system):
    ingress.serve(system, webhook_allow_private=True)
    with token(system, "greedy", "admin") as text, ingress.client(system, text) as client:
        yield client


def at_once(count, ask):
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(ask, range(count)))


def codes(answers):
    return {(one.status_code, one.json()["code"]) for one in answers if one.status_code >= 400}


def test_webhooks_of_one_token_are_bounded_however_many_are_asked_for_at_once(greedy, system):
    def make(number):
        return greedy.post("/webhooks", json={"url": f"http://127.0.0.1:9099/{number}", "types": ["never"]})

    answers = at_once(quotas.MAX_WEBHOOKS + 10, make)
    made = [one.json()["id"] for one in answers if one.status_code == 201]
    try:
        assert (len(made), codes(answers)) == (quotas.MAX_WEBHOOKS, {(409, "QUOTA_USED_UP")})
        greedy.delete(f"/webhooks/{made.pop()}")
        made.append((again := make(0)).json()["id"])
        assert again.status_code == 201
        with ingress.client(system) as root:
            other = root.post("/webhooks", json={"url": "http://127.0.0.1:9099/x", "types": ["never"]})
            assert other.status_code == 201
            root.delete(f"/webhooks/{other.json()['id']}")
    finally:
        at_once(len(made), lambda number: greedy.delete(f"/webhooks/{made[number]}"))


def test_login_links_of_one_token_are_bounded(greedy):
    answers = at_once(quotas.MAX_LINKS + 5, lambda _: greedy.post("/login/links"))
    assert sum(one.status_code == 201 for one in answers) == quotas.MAX_LINKS
    assert codes(answers) == {(429, "TOO_MANY_LINKS")}
    assert all(int(one.headers["retry-after"]) for one in answers if one.status_code == 429)


def test_live_tokens_that_one_token_made_are_bounded(greedy, system):
    me = greedy.get("/whoami").json()
    rows = (
        "SELECT 'x' || n, 'many-' || $1::text || n, $1::text::bytea, '{read}', '{}', $1, $3 "
        "FROM generate_series(1, $2) n"
    )
    columns = "id, name, hash, scopes, places, created_by, parent_id"
    system.database.rows(f"INSERT INTO ingress.tokens ({columns}) {rows}", me["name"], quotas.MAX_TOKENS, me["id"])
    try:
        refused = greedy.post("/tokens", json={"name": "one-more", "scopes": ["read"]})
        assert (refused.status_code, refused.json()["code"]) == (409, "QUOTA_USED_UP")
    finally:
        system.database.rows("DELETE FROM ingress.tokens WHERE created_by = $1", me["name"])


def test_open_uploads_of_one_token_are_bounded(greedy):
    answers = at_once(quotas.MAX_OPEN_UPLOADS + 5, lambda _: greedy.post("/tus/", headers=TUS))
    begun = [one.headers["location"] for one in answers if one.status_code == 201]
    assert (len(begun), codes(answers)) == (quotas.MAX_OPEN_UPLOADS, {(409, "QUOTA_USED_UP")})
    at_once(20, lambda number: greedy.delete(begun[number], headers=TUS))
    assert greedy.post("/tus/", headers=TUS).status_code == 201

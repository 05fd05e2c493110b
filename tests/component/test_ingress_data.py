"""Tables over HTTP, with their tables in memory: who may ask, what is refused, loads, and the page."""

import re
import secrets
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest

from shared.errors import Outage
from shared.events import EtlRequested
from tests.fakes.ingress import TOKEN, Ingress, settings

HTML = {"accept": "text/html"}
ROW = {
    "user_id": "1000",
    "first_name": "<b>Zoë</b>",
    "last_name": "O'Hara",
    "birthts": 0,
    "img_path": "src-data/1000.png",
    "@age": 56,
}
REJECT = {
    "bucket": "src-data",
    "key": "7.csv",
    "row": 0,
    "column": "",
    "value": "",
    "code": "X",
    "reason": "no <UTF-8>",
}
LOAD = {
    "load_id": "l",
    "dataset": "users",
    "state": "succeeded",
    "requested_at": datetime(2026, 1, 1, tzinfo=UTC),
    "why": "schedule",
    "listed": 2000,
    "changed": 3,
    "removed": 0,
    "rows": 3,
    "rejected": 0,
    "seconds": 1.5,
    "error": None,
}


@pytest.fixture
async def browser(ingress):
    async with ingress.client(None) as client:
        client.headers.update(HTML)
        await client.post("/login", data={"token": TOKEN})
        yield client


async def token(client, **fields):
    response = await client.post("/tokens", json={"name": secrets.token_hex(4), **fields})
    return {"authorization": f"Bearer {response.json()['token']}"}


async def test_filters_combine(client, ingress):
    assert (await client.get("/data?is_image_exists=True&min_age=30&max_age=40")).status_code == 200
    ((name, fields, response),) = ingress.dependencies.tables.queries
    assert (name, response) == ("users", "json")
    assert (fields.is_image_exists, fields.min_age, fields.max_age) == (True, 30, 40)


@pytest.mark.parametrize("path", ["/data", "/stats"])
@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("is_image_exists=maybe", ("is_image_exists", "'maybe'", "send True, False")),
        ("min_age=x", ("min_age", "'x'", "send whole years")),
        ("max_age=1e3", ("max_age", "'1e3'", "send whole years")),
        ("dataset=a%00b", ("dataset",)),
    ],
)
async def test_bad_value_is_refused_with_parameter_value_and_fix(client, path, query, words):
    answer = await client.get(f"{path}?{query}")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert all(word in answer.json()["detail"] for word in words), answer.json()


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=1000001", "after=%00", "format=xml"])
async def test_page_that_cannot_be_is_refused(client, query):
    assert (await client.get(f"/data?{query}")).status_code == 422


@pytest.mark.parametrize("path", ["/data", "/stats", "/data/rejects"])
async def test_unknown_dataset_is_refused_with_the_known_names(client, path):
    answer = await client.get(f"{path}?dataset=user")
    assert answer.status_code == 404
    assert answer.json()["code"] == "DATASET_UNKNOWN"
    assert "there are stones, users" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/data", "/stats"])
async def test_age_filter_without_birth_column_is_refused(client, path):
    answer = await client.get(f"{path}?dataset=stones&max_age=3")
    assert (answer.status_code, answer.json()["code"]) == (422, "NO_AGES")


async def test_datasets_before_etl_ran_are_explained(client, ingress):
    ingress.dependencies.tables.datasets = []
    for answer in (await client.get("/data"), await client.post("/data")):
        assert answer.status_code == 404
        assert "start etl" in answer.json()["detail"]


async def test_token_with_part_of_the_bucket_sees_no_dataset(client, ingress):
    part = await token(client, scopes=["read", "run"], places=["src-data/a/"])
    whole = await token(client, scopes=["read", "run"], places=["src-data/"])
    for method, path in (("GET", "/data"), ("POST", "/data"), ("GET", "/stats"), ("GET", "/data/rejects")):
        assert (await client.request(method, path, headers=part)).status_code == 404
        assert (await client.request(method, path, headers=whole)).is_success
    ingress.dependencies.loads.table = [LOAD]
    assert (await client.get("/data/loads", headers=part)).json() == []
    assert (await client.get("/data/loads/l", headers=part)).status_code == 404
    assert (await client.get("/data/loads/l", headers=whole)).json()["state"] == "succeeded"


async def test_reader_cannot_request_a_load_and_anonymous_cannot_read(client, ingress):
    reader = await token(client, scopes=["read"])
    assert (await client.get("/data", headers=reader)).status_code == 200
    assert (await client.post("/data", headers=reader)).status_code == 403
    assert ingress.dependencies.loads.bus.published == []
    async with ingress.client(None) as stranger:
        for path in ("/data", "/stats", "/data/loads", "/data/rejects", "/users"):
            assert (await stranger.get(path)).status_code == 401


async def test_load_is_asked_for_and_followed(client, ingress):
    answer = await client.post("/data")
    response = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == response["status_url"] == f"/data/loads/{response['load_id']}"
    (event,) = ingress.dependencies.loads.bus.published
    assert event == EtlRequested(load_id=response["load_id"], dataset="users", correlation_id=response["load_id"])
    assert (await client.get(response["status_url"])).json()["state"] == "requested"
    ingress.dependencies.loads.table = [{**LOAD, "load_id": response["load_id"], "state": "running"}]
    assert (await client.get(response["status_url"])).json()["state"] == "running"


async def test_unknown_load_is_404(client):
    for load_id in ("0" * 32, "x", "%27%20or%201"):
        answer = await client.get(f"/data/loads/{load_id}")
        assert (answer.status_code, answer.json()["code"]) == (404, "NO_SUCH_LOAD")


async def test_without_kafka_a_load_is_put_off(client, ingress):
    ingress.dependencies.loads.bus.error = Outage("Kafka does not answer")
    answer = await client.post("/data")
    assert answer.status_code == 503
    assert "retry-after" in answer.headers


async def test_rejects_are_paged(client, ingress):
    ingress.dependencies.tables.rejects_found = [REJECT, REJECT, REJECT]
    answer = await client.get("/data/rejects?limit=2&token=secret")
    assert answer.json()["next"] == "more"
    assert len(answer.json()["rejects"]) == 2
    link = re.fullmatch('<(.*)>; rel="next"', answer.headers["link"])[1]
    assert parse_qs(urlsplit(link).query) == {"limit": ["2"], "after": ["more"]}


async def test_counts_have_the_words_of_the_contract(client, ingress):
    ingress.dependencies.tables.found = [ROW, {**ROW, "img_path": ""}]
    assert (await client.get("/stats?min_age=3")).json() == {
        "dataset": "users",
        "count": 2,
        "with_image": 1,
        "without_image": 1,
        "average_age": 35.0,
        "min_age": 35,
        "max_age": 35,
        "ages": [{"from": 30, "to": 39, "count": 2}],
    }


async def test_users_page_escapes_rows_rejects_ages_and_loads(browser, ingress):
    ingress.dependencies.tables.found = [{**ROW, "user_id": f"{number}"} for number in range(60)]
    ingress.dependencies.tables.rejects_found = [REJECT]
    ingress.dependencies.loads.table = [LOAD]
    page = await browser.get("/users?is_image_exists=true&min_age=20&contains=%22x")
    assert page.status_code == 200
    assert page.text.count("<img") == 50
    assert 'src="/objects/src-data/1000.png"' in page.text
    assert "&lt;b&gt;Zoë&lt;/b&gt;" in page.text
    assert "no &lt;UTF-8&gt;" in page.text
    assert 'value="&#34;x"' in page.text
    assert "30\N{EN DASH}39" in page.text
    assert "2,000" in page.text
    (more,) = re.findall(r'rel="next" href="([^"]*)"', page.text)
    fields = {"is_image_exists": ["True"], "min_age": ["20"], "contains": ['"x'], "dataset": ["users"], "after": ["49"]}
    assert parse_qs(urlsplit(more.replace("&amp;", "&")).query) == fields


async def test_run_now_needs_the_forms_own_proof_and_leads_back_to_the_load(browser, ingress):
    page = await browser.get("/users")
    csrf = re.search('name="csrf" value="([^"]+)"', page.text)[1]
    assert (await browser.post("/users/run?dataset=users", data={})).status_code == 403
    answer = await browser.post("/users/run?dataset=users", data={"csrf": csrf})
    assert answer.status_code == 303
    (event,) = ingress.dependencies.loads.bus.published
    assert event.dataset == "users"
    page = await browser.get(answer.headers["location"])
    assert "asked for" in page.text
    assert "A load is under way" in page.text
    assert 'http-equiv="refresh"' in page.text
    ingress.dependencies.loads.table = [{**LOAD, "load_id": event.load_id}]
    fragment = await browser.get(f"/users/loads?load_id={event.load_id}")
    assert fragment.text.count("<tr data-load") == 1
    assert "A load is under way" not in fragment.text


async def test_load_that_runs_is_shown_with_how_far_it_is(browser, ingress):
    progress = {"listed": 9, "differing": 8, "done": 0.25, "message": "25% of 8 <objects> read"}
    ingress.dependencies.loads.table = [{**LOAD, "state": "running", "progress": progress}]
    fragment = await browser.get("/users/loads")
    assert 'value="25.0"' in fragment.text
    assert "25% of 8 &lt;objects&gt; read" in fragment.text
    ingress.dependencies.loads.table = [{**LOAD, "state": "running", "progress": {"message": "9 objects listed"}}]
    fragment = await browser.get("/users/loads")
    assert "<progress aria-label=" in fragment.text
    assert "value=" not in fragment.text


async def test_page_without_run_scope_has_no_run_button(client):
    reader = await token(client, scopes=["read"])
    assert "Run now" in (await client.get("/users", headers=HTML)).text
    assert "Run now" not in (await client.get("/users", headers=HTML | reader)).text


async def test_page_without_dataset_explains_how_to_get_one(browser, ingress):
    ingress.dependencies.tables.datasets = []
    assert "No table yet" in (await browser.get("/users")).text


async def test_page_without_postgres_is_a_problem_page(browser, ingress):
    ingress.dependencies.tables.is_away = True
    page = await browser.get("/users")
    assert page.status_code == 503
    assert "<h1>Service Unavailable</h1>" in page.text


async def ended_later(ingress, state, *, after=2):
    """Let etl write of the load that is asked for, once it was looked at a few times."""
    known, looks = ingress.dependencies.loads.find, 0

    async def knows(load_id, datasets):
        nonlocal looks
        looks += 1
        if looks > after:
            return {"load_id": load_id, "state": state}
        return await known(load_id, datasets)

    ingress.dependencies.loads.find = knows


@pytest.mark.parametrize("state", ["succeeded", "failed"])
async def test_load_is_waited_for_so_that_the_next_question_sees_it(state):
    ingress = Ingress(settings=settings(load_wait_seconds=30))
    await ended_later(ingress, state)
    async with ingress.client() as client:
        answer = await client.post("/data")
    assert (answer.status_code, answer.json()["state"]) == (202, state)
    assert f"has {state}" in answer.json()["message"]
    assert "preference-applied" not in answer.headers


@pytest.mark.parametrize("prefer", ["respond-async", "Respond-Async, wait=10", "wait=10,respond-async"])
async def test_prefer_respond_async_is_answered_at_once(prefer):
    ingress = Ingress(settings=settings(load_wait_seconds=30))
    await ended_later(ingress, "succeeded", after=0)
    async with ingress.client() as client:
        answer = await client.post("/data", headers={"prefer": prefer})
    assert (answer.status_code, answer.json()["state"]) == (202, "requested")
    assert answer.headers["preference-applied"] == "respond-async"


async def test_load_that_takes_longer_is_followed_by_its_address():
    ingress = Ingress(settings=settings(load_wait_seconds=0.2))
    async with ingress.client() as client:
        answer = await client.post("/data", headers={"prefer": "handling=lenient"})
        assert (answer.status_code, answer.json()["state"]) == (202, "requested")
        assert (await client.get(answer.headers["location"])).json()["state"] == "requested"


@pytest.mark.parametrize("query", ["min_age=35.0", "min_age=35.5", "max_age=-1", "min_age=-1", "min_age=41&max_age=40"])
async def test_bounds_matching_no_age_are_accepted(client, query):
    assert (await client.get(f"/data?{query}")).json() == {}
    assert (await client.get(f"/stats?{query}")).json()["count"] == 0

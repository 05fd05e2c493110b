"""What the ingress does for strangers and how much it holds for anybody, without a server."""

import asyncio

import pytest
from structlog.testing import capture_logs

from services.ingress.adapters.bodies import MAX_FIELDS_BYTES, MAX_NAMES_BYTES
from services.ingress.core.rate_limiter import RateLimiter
from services.ingress.routes.json_route import MAX_JSON_BYTES
from services.ingress.routes.login import CODE
from tests.fakes.ingress import TOKEN, Ingress, settings


@pytest.fixture
def ingress():
    ingress = Ingress()
    ingress.dependencies.rate_limiter = RateLimiter(clock=lambda: 0.0)  # at which nothing is forgotten
    return ingress


async def code_of(ingress):
    async with ingress.client() as client:
        return (await client.post("/login/links")).json()["url"].partition("code=")[2]


def asked_of(table):
    """Let a table count how often it is asked for a code."""
    codes, use = [], table.use_link

    async def use_link(hashed):
        codes.append(hashed)
        return await use(hashed)

    table.use_link = use_link
    return codes


async def test_wrong_codes_are_counted_before_the_database_is_asked(ingress):
    asked = asked_of(ingress.table)
    async with ingress.client(None) as stranger:
        attempts = [stranger.get("/login", params={"code": f"{number:043}"}) for number in range(100)]
        answers = await asyncio.gather(*attempts)
    assert len(asked) == 30
    assert {one.status_code for one in answers} == {403, 429}


async def test_malformed_login_code_causes_no_query(ingress):
    asked = asked_of(ingress.table)
    async with ingress.client(None) as stranger:
        for code in ("x", "x" * 44, "ü" * 43, "%00" * 43):
            assert (await stranger.get("/login", params={"code": code})).status_code == 403
    assert asked == []
    assert CODE.fullmatch(await code_of(ingress))


async def test_valid_login_code_refunds_the_attempt(ingress):
    async with ingress.client(None) as browser:
        for _ in range(28):
            await browser.get("/login", params={"code": "A" * 43})
        for _ in range(5):
            assert (await browser.get("/login", params={"code": await code_of(ingress)})).status_code == 303


async def test_sessions_per_token_are_rate_limited(ingress):
    async with ingress.client(None) as browser:
        answers = [await browser.post("/login", data={"token": TOKEN}) for _ in range(40)]
    assert [one.status_code for one in answers].count(303) == 30
    assert answers[-1].json()["code"] == "TOO_MANY_REQUESTS"


async def test_session_is_found_among_thousands_of_cookies(ingress):
    async with ingress.client(None) as browser:
        await browser.post("/login", data={"token": TOKEN})
        (name, value), *_ = browser.cookies.items()
        others = "; ".join(f"other_{number}=x" for number in range(3000))
        browser.cookies.clear()
        for cookie in (f"{others}; {name}={value}", f"{name}={value}; {others}", f"{name}=old; {name}={value}"):
            assert (await browser.get("/whoami", headers={"cookie": cookie})).status_code == 200
        wrong = f"x{name}={value}"
        assert (await browser.get("/whoami", headers={"cookie": wrong})).status_code == 401


@pytest.mark.parametrize(
    ("query", "status"),
    [
        (f"token={TOKEN}", 200),
        (f"a=1&token={TOKEN}&b=2", 200),
        (f"token=x&token={TOKEN}", 200),
        (f"token={TOKEN}&token=", 401),
        (f"xtoken={TOKEN}", 401),
        ("token=the%2Dfirst%2Dtoken", 200),
    ],
)
async def test_token_in_the_address_is_found(ingress, query, status):
    async with ingress.client(None) as client:
        assert (await client.get(f"/whoami?{query}")).status_code == status


@pytest.mark.parametrize("path", ["/files/", "/uploadfile/", "/files/upload_minio"])
async def test_sum_of_plain_fields_is_bounded(ingress, path):
    fields = {f"f{number}": "x" * 60_000 for number in range(MAX_FIELDS_BYTES // 60_000 + 1)}
    async with ingress.client() as client:
        answer = await client.post(path, files={"file": ("a", b"x")}, data=fields, headers={"bucket": "inbox"})
    assert (answer.status_code, answer.json()["code"]) == (413, "TOO_LARGE")
    assert "plain fields of the form" in answer.json()["detail"]


async def test_names_of_files_are_bounded_too():
    files = [("files", (f"{number}{'n' * 900}", b"")) for number in range(MAX_NAMES_BYTES // 900 + 1)]
    async with Ingress().client() as client:
        answer = await client.post(
            "/files/upload_minio", files=files, data={"keys_prefix": "p"}, headers={"bucket": "inbox"}
        )
    assert (answer.status_code, answer.json()["code"]) == (413, "TOO_LARGE")
    assert "names of the form's files" in answer.json()["detail"]


async def test_many_empty_fields_count_as_well():
    ingress = Ingress(settings(max_form_parts=100_000))
    names = {f"{'n' * 500}{number}": "" for number in range(2000)}
    async with ingress.client() as client:
        answer = await client.post("/files/", files={"file": ("a", b"x")}, data=names)
    assert (answer.status_code, answer.json()["code"]) == (413, "TOO_LARGE")


@pytest.mark.parametrize("path", ["/tokens", "/webhooks", "/multipart", "/multipart/x/sign"])
async def test_json_bodies_are_bounded(ingress, path):
    async with ingress.client() as client:
        headers = {"content-type": "application/json"}
        answer = await client.post(path, content=b" " * (MAX_JSON_BYTES + 1), headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (413, "TOO_LARGE")
        assert (await client.post(path, content=b" " * MAX_JSON_BYTES, headers=headers)).status_code == 422


async def test_upload_metadata_is_bounded(ingress):
    headers = {
        "tus-resumable": "1.0.0",
        "upload-length": "1",
        "upload-metadata": ",".join(f"a{n}" for n in range(3000)),
    }
    async with ingress.client() as client:
        answer = await client.post("/tus/", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "BAD_METADATA")


async def test_types_of_a_stream_are_bounded(ingress):
    async with ingress.client() as client:
        for types in (",".join(f"t{number}" for number in range(51)), "x" * 201):
            answer = await client.get("/events", params={"type": types})
            assert (answer.status_code, answer.json()["code"]) == (422, "TOO_MANY_TYPES")


async def test_disk_reserves_space_for_running_uploads(ingress):
    disk = ingress.dependencies.uploads._disk

    class Body:
        left = 0

    body = Body()
    with disk.reserve(body):
        body.left = 1 << 60
        async with ingress.client() as client:
            answer = await client.put("/objects/inbox/a", content=b"x")
    assert (answer.status_code, answer.json()["code"]) == (507, "DISK_FULL")
    async with ingress.client() as client:
        assert (await client.put("/objects/inbox/a", content=b"x")).status_code == 201


@pytest.mark.parametrize("path", ["/files/", "/uploadfile/", "/uploadfile-html/"])
async def test_full_disk_is_not_logged_as_an_error(path):
    async with Ingress(settings(disk_usage_threshold=0.001)).client() as client:
        with capture_logs() as logs:
            answer = await client.post(path, files={"file": ("a", b"x")})
    assert answer.status_code == 507
    assert logs == []


async def test_outage_is_one_line_in_the_log():
    ingress = Ingress()
    ingress.store.is_away = True
    async with ingress.client() as client:
        with capture_logs() as logs:
            answer = await client.put("/objects/inbox/a", content=b"x")
    assert answer.status_code == 503
    (line,) = [one for one in logs if one["event"] == "request.failed"]
    assert (line["log_level"], line["reason"]) == ("warning", "the object store is away")
    assert "exc_info" not in line

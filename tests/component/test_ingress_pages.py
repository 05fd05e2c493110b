"""The pages: forms that work without a script, results, errors for people, and headers that let in nothing foreign."""

import re
from datetime import UTC, datetime

import pytest

from services.ingress.core.result_page import RecentObject
from services.ingress.core.upload_ids import OWNER_KEY
from services.ingress.core.upload_status import Upload
from shared.errors import Outage
from shared.storage import ObjectRef
from tests.fakes.ingress import TOKEN, Ingress, settings

HTML = {"accept": "text/html,application/xhtml+xml"}
PAGES = ("/", "/uploadform/", "/files/", "/gethash-form/", "/docs")
DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


class Views:
    """The views, as a test fills them."""

    def __init__(self):
        self.uploads = {}
        self.last = []
        self.is_away = False

    async def upload(self, _bucket, number):
        self._ask()
        return self.uploads.get(number)

    async def recent(self, _places, _limit):
        self._ask()
        return self.last

    def _ask(self):
        if self.is_away:
            raise Outage("Postgres does not answer")


@pytest.fixture
def ingress():
    made = Ingress()
    made.dependencies.views = Views()
    return made


@pytest.fixture
async def browser(ingress):
    async with ingress.client(None) as client:
        client.headers.update(HTML)
        await client.post("/login", data={"token": TOKEN})
        yield client


def found(status="succeeded", **known):
    number = "0" * 32
    about = {"etag": "e", "hashed_etag": "e", "size": 4, "state": "stored", "status": status, "owner": "root"}
    return Upload(number, "inbox", f"uploads/{number}/a.txt", **{**about, **known})


def action(page, path):
    """Where the page's form for `path` leads."""
    (url,) = set(re.findall(rf'action="({re.escape(path)}[^"]*)"', page.text))
    return url


@pytest.mark.parametrize("path", PAGES)
async def test_page_has_the_navigation_and_the_form_for_results(browser, path):
    page = await browser.get(path)
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-store"
    assert [label for label in ("Home", "Upload", "Files", "API") if f"{label}</a>" in page.text] == [
        "Home",
        "Upload",
        "Files",
        "API",
    ]
    assert 'action="/gethash-form/"' in page.text or path == "/docs"


@pytest.mark.parametrize("path", PAGES)
async def test_stranger_is_sent_to_log_in_and_from_there_back(ingress, path):
    async with ingress.client(None) as client:
        sent = await client.get(path, headers=HTML)
        assert (sent.status_code, sent.headers["location"].split("?")[0]) == (303, "/login")
        assert (await client.get(sent.headers["location"], headers=HTML)).status_code == 200


@pytest.mark.parametrize("path", [*PAGES, "/login", "/no/such", "/health", "/static/app.css", "/static/none"])
async def test_every_response_has_security_headers(browser, path):
    headers = (await browser.get(path)).headers
    policy = dict(one.strip().split(" ", 1) for one in headers["content-security-policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self' http://127.0.0.1:9000",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
    }
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"
    assert "camera=()" in headers["permissions-policy"]


async def test_browsers_may_reach_the_store_at_the_address_that_they_know():
    ingress = Ingress(settings=settings(s3_public_endpoint="https://s3.example/"))
    async with ingress.client() as client:
        policy = (await client.get("/health")).headers["content-security-policy"]
    assert "connect-src 'self' https://s3.example;" in policy


@pytest.mark.parametrize("path", [*PAGES, "/login"])
async def test_pages_have_no_inline_script_or_foreign_resource(browser, path):
    text = (await browser.get(path)).text
    assert not re.findall(r"<script(?![^>]* src=)|<style| style=| on\w+=|javascript:", text)
    assert all(url.startswith("/") for url in re.findall(r'(?:src|href|action)="([^"#]+)"', text))


async def test_file_is_stored_by_the_form_and_its_page_waits_for_the_digests(ingress, browser):
    url = action(await browser.get("/uploadform/"), "/uploadfile-html/")
    page = await browser.post(url, files={"file": ("a.txt", b"test")})
    number = re.search(r"<code[^>]*>([0-9a-f]{32})</code>", page.text)[1]
    assert page.status_code == 200
    assert f'hx-get="/gethash-form/fragment?file_id={number}' in page.text
    assert "http-equiv" in page.text
    info = await ingress.store.head(ObjectRef("inbox", f"uploads/{number}/a.txt"))
    assert (info.size, info.metadata[OWNER_KEY]) == (4, "root")


async def test_result_page_of_an_upload_works_during_a_database_outage(ingress, browser):
    url = action(await browser.get("/"), "/uploadfile-html/")
    ingress.dependencies.views.is_away = True
    assert (await browser.post(url, files={"file": ("a.txt", b"test")})).status_code == 200


async def test_without_the_proof_of_its_page_a_form_stores_nothing(ingress, browser):
    page = await browser.post("/uploadfile-html/", files={"file": ("a.txt", b"test")})
    assert page.status_code == 403
    assert "BAD_CSRF" in page.text
    assert [info async for page in ingress.store.list("inbox") for info in page] == []


async def test_form_without_file_shows_a_problem_page(browser):
    url = action(await browser.get("/uploadform/"), "/uploadfile-html/")
    page = await browser.post(url, files={"file": ("", b"")})
    assert page.status_code == 422
    assert page.headers["content-type"].startswith("text/html")


async def test_result_page_shows_every_digest(ingress, browser):
    ingress.dependencies.views.uploads["0" * 32] = found(digests={"sha256": DIGEST, "md5": "0" * 32})
    page = await browser.get("/gethash-form/", params={"file_id": f" {'0' * 32} "})
    assert page.text.count(f'data-copy="{DIGEST}"') == 1
    assert "hx-get" not in page.text
    assert "http-equiv" not in page.text


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"status": "pending"}, ["waiting"]),
        ({"status": "running", "progress": {"bytes": 25, "size": 100}}, ["being read", "25 % so far", 'value="25"']),
        ({"status": "running"}, ["being read"]),
        ({"status": "failed", "error": "<b>broken</b>"}, ["failed", "&lt;b&gt;broken"]),
        ({"status": "gone", "state": "removed"}, ["failed", "the object was removed"]),
    ],
)
async def test_result_page_shows_progress(ingress, browser, known, words):
    ingress.dependencies.views.uploads["0" * 32] = found(**known)
    text = (await browser.get("/gethash-form/", params={"file_id": "0" * 32})).text
    assert [word for word in words if word not in text] == []
    assert ("hx-get" in text) == (known["status"] in {"pending", "running"})


async def test_unchanged_result_fragment_is_204(ingress, browser):
    ingress.dependencies.views.uploads["0" * 32] = found("pending")
    ask = {"file_id": "0" * 32}
    first = await browser.get("/gethash-form/fragment", params=ask)
    seen = re.search(r"seen=([^\"]+)", first.text)[1]
    assert (await browser.get("/gethash-form/fragment", params={**ask, "seen": seen})).status_code == 204
    ingress.dependencies.views.uploads["0" * 32] = found("running", progress={"bytes": 1, "size": 100})
    assert (await browser.get("/gethash-form/fragment", params={**ask, "seen": seen})).status_code == 200


@pytest.mark.parametrize("file_id", ["1", "0" * 32, "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>'])
async def test_unknown_id_page_does_not_poll(browser, file_id):
    page = await browser.get("/gethash-form/", params={"file_id": file_id})
    assert page.status_code == 200
    assert "unknown id" in page.text
    assert "hx-get" not in page.text
    assert "<script>alert" not in page.text
    assert "<img" not in page.text


async def test_anothers_upload_is_an_unknown_id(ingress):
    ingress.dependencies.views.uploads["0" * 32] = found(owner="other", digests={"md5": DIGEST})
    async with ingress.client() as root:
        made = await root.post("/tokens", json={"name": "r", "scopes": ["read"]})
    async with ingress.client(made.json()["token"]) as reader:
        page = await reader.get("/gethash-form/", params={"file_id": "0" * 32})
    assert "unknown id" in page.text
    assert DIGEST not in page.text


async def test_start_page_lists_recent_objects(ingress, browser):
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    ingress.dependencies.views.last = [
        RecentObject("inbox", "<b>.txt", at, "stored", 2048, "succeeded", {"sha256": DIGEST}),
        RecentObject("inbox", "gone.txt", at, "removed", None, "gone"),
    ]
    for path in ("/", "/recent"):
        text = (await browser.get(path)).text
        assert "&lt;b&gt;.txt" in text
        assert "<b>.txt" not in text
        assert "2.0 KiB" in text
        assert '<time datetime="2026-01-02T03:04:05Z">2026-01-02 03:04:05 UTC</time>' in text
        assert text.count("removed") == 1


async def test_start_page_takes_files_while_the_database_is_away(ingress, browser):
    ingress.dependencies.views.is_away = True
    text = (await browser.get("/")).text
    assert "The list cannot be read just now" in text
    assert action(await browser.get("/"), "/uploadfile-html/")


async def test_page_offers_only_permitted_actions(ingress):
    async with ingress.client() as root:
        made = await root.post("/tokens", json={"name": "r", "scopes": ["read"]})
    async with ingress.client(made.json()["token"]) as reader:
        text = (await reader.get("/")).text
    assert "You may not upload" in text
    assert '<input type="file"' not in text


async def test_browser_upload_redirects_to_the_list_of_files(browser):
    url = action(await browser.get("/files/"), "/files/")
    sent = await browser.post(url, files={"file": ("ä & b.txt", b"test")})
    assert sent.status_code == 303
    page = await browser.get(sent.headers["location"])
    assert "ä &amp; b.txt is stored" in page.text
    href = re.search(r'<a href="(/files/[^"?]+)" download', page.text)[1]
    assert (await browser.get(href)).content == b"test"


async def test_program_upload_gets_the_former_json(ingress):
    async with ingress.client() as client:
        answer = await client.post("/files/", files={"file": ("a.txt", b"test")})
    assert (answer.status_code, answer.json()["message"]) == (202, "a.txt upload task submitted.")


async def test_list_of_files_is_paged(ingress, browser, monkeypatch):
    monkeypatch.setattr("services.ingress.routes.browse.PAGE_SIZE", 2)
    for name in "abc":
        await ingress.store.put(ObjectRef("inbox", f"files/{name}"), b"x")
    first = await browser.get("/files/")
    more = re.search(r'rel="next" href="([^"]+)"', first.text)[1]
    second = await browser.get(more)
    names = [re.findall(r'<th scope="row">([^<]+)</th>', page.text) for page in (first, second)]
    assert names == [["a", "b"], ["c"]]
    assert 'rel="next"' not in second.text


@pytest.mark.parametrize("path", ["/no/such", "/objects/nowhere/key", "/links/none"])
async def test_person_gets_a_page_for_an_error_and_a_program_a_problem(ingress, browser, path):
    page = await browser.get(path)
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "<h1>Not Found</h1>" in page.text
    async with ingress.client() as client:
        problem = await client.get(path)
    assert (problem.status_code, problem.headers["content-type"]) == (404, "application/problem+json")


async def test_outage_page_has_retry_after(ingress, browser):
    ingress.store.is_away = True
    page = await browser.get("/files/")
    assert (page.status_code, page.headers["retry-after"]) == (503, "5")
    assert "the object store is away" in page.text


async def test_digest_api_error_is_json_for_any_accept(browser):
    answer = await browser.post("/uploadfile/", headers={"authorization": f"Bearer {TOKEN}"})
    assert answer.json()["success"] is False


async def test_static_files_with_version_are_immutable(ingress, browser):
    page = await browser.get("/")
    urls = sorted(set(re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text)))
    assert len(urls) == 6
    async with ingress.client(None) as stranger:
        for url in urls:
            answer = await stranger.get(url)
            assert (answer.status_code, "immutable" in answer.headers["cache-control"]) == (200, True)
            again = await stranger.get(url, headers={"if-none-match": answer.headers["etag"]})
            assert again.status_code == 304
            assert (await stranger.get(url.split("?")[0])).headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/", "/static/vendor"])
async def test_nothing_but_those_files_is_given(ingress, path):
    async with ingress.client(None) as stranger:
        assert (await stranger.get(path)).status_code in {401, 404}

"""The pages in a real browser on real servers: drop a file, see its digest; large ones in parts; no script at all."""

import hashlib
import random
import re
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from tests.support import ingress
from tests.support.browser import chromium, visiting
from tests.support.waiting import until

pytestmark = pytest.mark.integration

PAGES = ("/", "/uploadform/", "/files/", "/gethash-form/", "/docs", "/no/such/page", "/login")
LARGE = 70 << 20
PART = 16 << 20
DROP = """([form, name, text]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([text], name, {type: "text/plain"}));
  const options = {bubbles: true, cancelable: true, dataTransfer: transfer};
  for (const kind of ["dragenter", "dragover", "drop"]) {
    document.querySelector(form).dispatchEvent(new DragEvent(kind, options));
  }
}"""

STORED_TICKETS = """() => Object.entries(localStorage)
  .filter(([name]) => name.startsWith("penstock.upload:"))
  .map(([, ticket]) => ticket)"""
SUBMIT = """() => {
  const transfer = new DataTransfer();
  transfer.items.add(new File(["once"], "once.txt"));
  document.querySelector("#digest-file").files = transfer.files;
  document.querySelector("#digest").submit();
}"""


@pytest.fixture(scope="module")
def browser(stack):
    with chromium(stack.state_dir) as running:
        yield running


@pytest.fixture
def root(system):
    ingress.serve(system)
    with ingress.client(system) as client:
        yield client


@pytest.fixture
def visit(browser, system, root):
    """Open browsers that are logged in by a link, and let none of them do what no page may."""
    open_ones = []

    def opening(*, logged_in=True, **options):
        link = root.post("/login/links").json()["url"] if logged_in else ""
        manager = visiting(browser, system, logged_in=link, **options)
        visitor = manager.__enter__()
        open_ones.append((manager, visitor))
        return visitor

    yield opening
    for manager, visitor in open_ones:
        manager.__exit__(None, None, None)
        assert visitor.complaints == []


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "large.bin"
    path.write_bytes(random.Random(7).randbytes(LARGE))
    return path


def sha256(body):
    return hashlib.sha256(body).hexdigest()


def open_uploads(system):
    """How many multipart uploads stand in the staging bucket's notes."""
    listed = system.s3.list_objects_v2(Bucket="uploads", Prefix="parts/")
    return listed["KeyCount"]


def test_a_dropped_file_shows_its_digest_without_a_reload(visit):
    page = visit().go("/")
    page.evaluate("window.isSame = true")
    page.evaluate(DROP, ["#digest", "dropped é.txt", "hello"])
    result = page.locator("#digest-list .upload").first
    expect(result.locator("code", has_text=sha256(b"hello"))).to_be_visible()
    expect(result.locator(".upload-name")).to_have_text("dropped é.txt")
    expect(result.locator(".badge")).to_have_text("ready")
    assert page.evaluate("window.isSame")
    expect(page.locator("#recent")).to_contain_text("dropped é.txt")
    assert page.evaluate("window.isSame")


def test_several_files_are_chosen_at_once_and_a_digest_is_copied(visit):
    page = visit(permissions=["clipboard-read", "clipboard-write"]).go("/uploadform/")
    files = [{"name": f"{n}.txt", "mimeType": "text/plain", "buffer": f"{n}".encode()} for n in range(3)]
    page.locator("#digest-file").set_input_files(files)
    for n in range(3):
        expect(page.locator("code", has_text=sha256(f"{n}".encode()))).to_be_visible()
    page.get_by_role("button", name="Copy sha256").first.click()
    assert page.evaluate("navigator.clipboard.readText()") in {sha256(f"{n}".encode()) for n in range(3)}


def test_a_result_is_found_by_its_id(visit, root):
    upload = root.post("/uploadfile/", files={"file": ("by-id.txt", b"by id")}).json()
    page = visit().go("/")
    page.get_by_label("Result by id").fill(upload["id"])
    page.get_by_role("button", name="Show").click()
    expect(page.locator("code", has_text=sha256(b"by id"))).to_be_visible()
    page.get_by_label("Result by id").fill("nothing")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("alert")).to_contain_text("no upload with this id")


def test_who_is_not_logged_in_is_asked_to_and_a_pasted_token_opens_the_page(visit, system):
    page = visit(logged_in=False).go("/files/")
    expect(page).to_have_url(re.compile(r"/login\?next=%2Ffiles%2F$"))
    page.get_by_label("Token").fill("pst_wrong_token")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("not known")
    page.get_by_label("Token").fill(system.stack.env["PENSTOCK_TOKEN"])
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(re.compile(r"/files/$"))
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(re.compile(r"/login$"))
    page.goto("/")
    expect(page).to_have_url(re.compile(r"/login\?next="))


def test_a_link_logs_in_once(visit, root):
    url = root.post("/login/links").json()["url"]
    page = visit(logged_in=False).go("/login")
    page.goto(url)
    expect(page.get_by_role("heading", level=1)).to_have_text("Files in, digests out")
    other = visit(logged_in=False).go("/login")
    other.goto(url)
    expect(other.get_by_role("alert")).to_contain_text("was used before")


def test_a_large_file_goes_to_the_store_in_parts(visit, system, large):
    visitor = visit()
    puts = []
    visitor.context.on("request", lambda request: puts.append(request.url) if request.method == "PUT" else None)
    page = visitor.go("/")
    page.locator("#digest-file").set_input_files(large)
    row = page.locator("#digest-list .upload").first
    expect(row.locator(".upload-state")).to_contain_text("Stored", timeout=60_000)
    expect(row.locator("code", has_text=sha256(large.read_bytes()))).to_be_visible(timeout=60_000)
    assert len(puts) == 5
    assert all(url.startswith(system.stack.env["PENSTOCK_S3_ENDPOINT"]) for url in puts)
    assert open_uploads(system) == 0
    assert page.evaluate(STORED_TICKETS) == []


def test_a_large_file_goes_on_when_its_addresses_have_expired(visit, system, large):
    visitor = visit()
    page = visitor.go("/files/")
    refused = []

    def refuse_the_first_four(route):
        if route.request.method != "PUT" or len(refused) == 4:
            route.continue_()
            return
        refused.append(route.request.url)
        route.fulfill(status=403, headers={"access-control-allow-origin": "*"}, body="<Code>AccessDenied</Code>")

    visitor.context.route(f"{system.stack.env['PENSTOCK_S3_ENDPOINT']}/**", refuse_the_first_four)
    page.locator("#keep-file").set_input_files(large)
    expect(page.locator(".upload-state").first).to_contain_text("Stored", timeout=60_000)
    stored = system.s3.get_object(Bucket="inbox", Key="files/large.bin")["Body"].read()
    assert sha256(stored) == sha256(large.read_bytes())
    assert len(refused) == 4
    assert open_uploads(system) == 0


def test_a_large_file_goes_on_after_a_reload(visit, system, large):
    visitor = visit()
    page = visitor.go("/files/")
    let_through = []

    def at_first_two_alone(route):
        if route.request.method == "PUT" and len(let_through) >= 2:
            return  # it hangs, as on a bad line
        if route.request.method == "PUT":
            let_through.append(route.request.url)
        route.continue_()

    visitor.context.route(f"{system.stack.env['PENSTOCK_S3_ENDPOINT']}/**", at_first_two_alone)
    page.locator("#keep-file").set_input_files(large)
    expect(page.locator(".upload-figures")).to_contain_text("left", timeout=60_000)
    (ticket,) = page.evaluate(STORED_TICKETS)
    with ingress.client(system) as root:
        until(lambda: len(root.get(f"/multipart/{ticket}").json()["sent"]) == 2, 60, "two parts are there")
    page.reload()  # ends what hangs; without its route it would go on
    visitor.context.unroute_all(behavior="ignoreErrors")
    expect(page.locator(".resumable")).to_contain_text("large.bin")
    puts = []
    visitor.context.on("request", lambda request: puts.append(request.url) if request.method == "PUT" else None)
    page.locator("#keep-file").set_input_files(large)
    expect(page.locator(".upload-state").first).to_contain_text("Stored", timeout=60_000)
    assert len(puts) == 3
    stored = system.s3.get_object(Bucket="inbox", Key="files/large.bin")["Body"].read()
    assert sha256(stored) == sha256(large.read_bytes())
    assert open_uploads(system) == 0


def test_a_cancelled_upload_leaves_nothing(visit, system, large):
    visitor = visit()
    page = visitor.go("/")
    visitor.context.route(f"{system.stack.env['PENSTOCK_S3_ENDPOINT']}/**", lambda _route: None)
    page.locator("#digest-file").set_input_files(large)
    until(lambda: open_uploads(system) == 1, 10, "it has begun")
    page.get_by_role("button", name="Cancel the upload of large.bin").click()
    expect(page.locator(".upload-state").first).to_have_text("Cancelled")
    until(lambda: open_uploads(system) == 0, 10, "it is gone")
    visitor.context.unroute_all(behavior="ignoreErrors")


def test_where_browsers_cannot_reach_the_store_a_large_file_goes_by_way_of_the_ingress(visit, system, large):
    visitor = visit()
    page = visitor.go("/files/")
    visitor.context.route(f"{system.stack.env['PENSTOCK_S3_ENDPOINT']}/**", lambda route: route.abort())
    page.locator("#keep-file").set_input_files(large)
    expect(page.locator(".upload-state").first).to_contain_text("Stored", timeout=90_000)
    assert open_uploads(system) == 0
    visitor.context.unroute_all(behavior="ignoreErrors")


def test_every_form_works_without_scripts(visit):
    page = visit(java_script_enabled=False).go("/uploadform/")
    page.locator("#digest-file").set_input_files({"name": "plain.txt", "mimeType": "text/plain", "buffer": b"plain"})
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Your file is stored")
    expect(page.locator("code", has_text=sha256(b"plain"))).to_be_visible(timeout=30_000)
    page.goto("/")
    page.locator("#keep-file").set_input_files({"name": "kept.txt", "mimeType": "text/plain", "buffer": b"kept"})
    page.get_by_role("button", name="Store").click()
    expect(page.locator(".done")).to_have_text("kept.txt is stored.")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download kept.txt").click()
    assert download.value.path().read_bytes() == b"kept"
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(re.compile(r"/login$"))


def test_a_stored_file_whose_page_is_loaded_again_is_not_sent_again(visit):
    page = visit().go("/uploadform/")
    page.evaluate(SUBMIT)
    expect(page.locator("code", has_text=sha256(b"once"))).to_be_visible()
    expect(page).to_have_url(re.compile(r"/gethash-form/\?file_id=[0-9a-f]{32}$"))
    page.reload()
    expect(page.locator("code", has_text=sha256(b"once"))).to_be_visible()


def test_hostile_names_are_shown_and_not_obeyed(visit, root):
    name = "<img src=x onerror=alert(1)>.txt"
    assert root.post("/files/", files={"file": (name, b"x")}).status_code == 202
    visitor = visit()
    page = visitor.go("/files/")
    expect(page.get_by_role("rowheader", name=name)).to_be_visible()
    page.evaluate(DROP, ["#keep", name, "y"])
    expect(page.locator(".upload-state").first).to_contain_text("Stored")
    assert page.locator("img").count() == 0
    root.delete(f"/objects/inbox/files/{quote(name)}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_keeps_people_from_using_a_page(visit, root, scheme):
    upload = root.post("/uploadfile/", files={"file": ("seen.txt", b"seen")}).json()
    until(lambda: root.get(f"/gethash/{upload['id']}").json()["status"] == "SUCCESS", 30, "the digests")
    visitor = visit(color_scheme=scheme)
    found = {}
    for path in (*PAGES, f"/gethash-form/?file_id={upload['id']}", "/gethash-form/?file_id=unknown"):
        visitor.go(path)
        if path == "/docs":
            expect(visitor.page.locator(".swagger-ui .opblock").first).to_be_visible()
        found[path] = visitor.findings()
    visitor.go("/").evaluate(DROP, ["#digest", "seen.txt", "seen"])
    expect(visitor.page.locator("code", has_text=sha256(b"seen")).first).to_be_visible()
    found["uploaded"] = visitor.findings()
    assert {path: one for path, one in found.items() if one} == {}


def test_no_page_is_wider_than_a_phone(visit, root):
    name = "a name without any blank in it that goes on and on ".replace(" ", "_") * 3
    upload = root.post("/uploadfile/", files={"file": (name, b"long")}).json()
    assert root.post("/files/", files={"file": (name, b"long")}).status_code == 202
    until(lambda: root.get(f"/gethash/{upload['id']}").json()["status"] == "SUCCESS", 30, "the digests")
    visitor = visit(viewport={"width": 360, "height": 740})
    for path in ("/", "/uploadform/", "/files/", f"/gethash-form/?file_id={upload['id']}", "/no/such/page"):
        page = visitor.go(path)
        assert page.evaluate("document.documentElement.scrollWidth") == 360, path


def test_the_keyboard_reaches_everything_and_the_colours_are_the_readers_choice(visit):
    page = visit().go("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.get_by_role("button", name="Dark").focus()
    page.keyboard.press("Enter")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.locator("#digest-file").focus()
    expect(page.locator("#digest-file")).to_be_focused()


def test_the_documentation_of_the_api_works_without_other_hosts(visit):
    page = visit().go("/docs")
    block = page.locator("#operations-tokens-whoami_whoami_get, .opblock", has_text="/whoami").first
    block.locator(".opblock-summary-control").click()
    block.get_by_role("button", name="Try it out").click()
    block.get_by_role("button", name="Execute").click()
    expect(block.locator(".responses-table.live-responses-table .response-col_status").last).to_contain_text("200")

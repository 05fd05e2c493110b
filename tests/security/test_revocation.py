"""What was made with a token ends with it, on real servers and in two processes of the ingress."""

import base64
import contextlib
import re
import secrets
import time
from pathlib import Path
from threading import Event

import asyncpg
import httpx
import pytest

from deploy.native import ports
from services.ingress import migrations
from tests.support import ingress
from tests.support.receiver import receiving
from tests.support.stream import following
from tests.support.topics import run
from tests.support.waiting import until

pytestmark = pytest.mark.integration

FAST = {"webhook_allow_private": True, "webhook_wait_seconds": 0.1, "webhook_attempts": 3}
SETTINGS = {"ingress": FAST}
MIB = 1 << 20
PART = 16 * MIB
SPOKEN = {"tus-resumable": "1.0.0"}
BYTES = {**SPOKEN, "content-type": "application/offset+octet-stream"}


@pytest.fixture
def root(system):
    ingress.serve(system)
    with ingress.client(system) as client:
        yield client


@pytest.fixture(scope="module")
def port(stack):
    yield ports.pick(1)[0]
    if "ingress-2" in stack.processes:
        stack.stop("ingress-2")


@pytest.fixture
def there(system, port):
    """Give the address of a second process of the ingress, which runs until the module ends."""
    system.serve("ingress", 2, http_port=port)
    return f"http://127.0.0.1:{port}"


@pytest.fixture
def receiver():
    with receiving() as receiver:
        yield receiver


def made(by, *scopes, **fields):
    answer = by.post("/tokens", json={"name": f"t-{secrets.token_hex(6)}", "scopes": scopes, **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


def hooked(system, by, receiver):
    process_asked = {"url": receiver.url, "types": ["objects.changed.*"], "bucket": "inbox", "prefix": system.prefix}
    answer = by.post("/webhooks", json=process_asked)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def keys(system, receiver):
    return [fact["key"].removeprefix(system.prefix) for fact in receiver.taken(system.prefix)]


def revoke(root, token):
    assert root.delete(f"/tokens/{token['id']}").status_code == 204


def status(url, token):
    return httpx.get(f"{url}/whoami", headers={"authorization": f"Bearer {token['token']}"}).status_code


def open_in_store(system, name):
    """Return the open multipart uploads of a key; MinIO lists those of a whole key alone."""
    found = system.s3.list_multipart_uploads(Bucket="inbox", Prefix=system.prefix + name).get("Uploads", [])
    return [one["UploadId"] for one in found]


def staged(system, prefix):
    found = system.s3.list_objects_v2(Bucket=system.stack.env.get("PENSTOCK_STAGING_BUCKET", "uploads"), Prefix=prefix)
    return [one["Key"] for one in found.get("Contents", [])]


# webhooks


@contextlib.contextmanager
def control(system, root):
    """Give a receiver of the first token's own webhook: what it has got, another could have."""
    with receiving() as receiver:
        number = hooked(system, root, receiver)
        try:
            yield receiver
        finally:
            until(lambda: root.delete(f"/webhooks/{number}").status_code in {204, 404}, 30, "it is removed")


@pytest.mark.parametrize("how", ["revoked", "expired", "its maker is revoked"])
def test_webhook_of_an_ended_token_gets_nothing_more(system, root, receiver, how):
    parent = made(root, "admin", expires_in=3600)
    with ingress.client(system, parent["token"]) as client:
        child = made(client, "admin")
    with ingress.client(system, child["token"]) as client, control(system, root) as other:
        number = hooked(system, client, receiver)
        system.put("before")
        until(lambda: keys(system, receiver) == ["before"], 6, lambda: receiver.deliveries)
        if how == "expired":
            ingress.expire(system, child)
        else:
            revoke(root, child if how == "revoked" else parent)
        hook = until(lambda: _disabled(root, number), 10, "the webhook is disabled")
        assert child["name"] in hook["last_error"]
        system.put("after")
        until(lambda: keys(system, other) == ["before", "after"], 30, lambda: keys(system, other))
        for _ in range(3):  # and by hand it is not taken up again
            refused = root.post(f"/webhooks/{number}/retry")
            assert (refused.status_code, refused.json()["code"]) == (409, "TOKEN_ENDED")
        assert root.post(f"/webhooks/{number}/test").json()["code"] == "TOKEN_ENDED"
        system.put("last")
        until(lambda: "last" in keys(system, other), 30, lambda: keys(system, other))
    assert keys(system, receiver) == ["before"]
    root.delete(f"/webhooks/{number}")


def _disabled(root, number):
    hook = root.get(f"/webhooks/{number}").json()
    return None if hook["enabled"] else hook


class Held(list):
    """An answer that is given when the test lets it go."""

    def __init__(self, status):
        super().__init__([status])
        self.is_asked, self.may_go = Event(), Event()

    def pop(self, *_):
        self.is_asked.set()
        self.may_go.wait(9)
        return super().pop()


@pytest.mark.parametrize("answer", [204, 500])
def test_delivery_under_way_when_its_token_is_revoked_is_the_last(system, root, receiver, answer):
    token = made(root, "admin")
    receiver.answers = held = Held(answer)
    with ingress.client(system, token["token"]) as client, control(system, root) as other:
        number = hooked(system, client, receiver)
        system.put_all([f"{one:02}" for one in range(20)])
        assert held.is_asked.wait(30)
        until(lambda: len(keys(system, other)) == 20, 30, lambda: keys(system, other))
        revoke(root, token)
        held.may_go.set()
        system.put("after")
        until(lambda: "after" in keys(system, other), 30, lambda: keys(system, other))
    assert len(receiver.deliveries) == 1
    assert token["name"] in root.get(f"/webhooks/{number}").json()["last_error"]
    root.delete(f"/webhooks/{number}")


# streams


def test_streams_of_a_revoked_token_end_at_once_and_elsewhere_within_five_seconds(system, root, there):
    parent = made(root, "admin")
    with ingress.client(system, parent["token"]) as client:
        child = made(client, "read")
    headers = {"authorization": f"Bearer {child['token']}"}
    until(lambda: status(there, child) == 200, 5, "it is known there")
    with (
        following(ingress.client(system, child["token"])) as here,
        following(httpx.Client(base_url=there, headers=headers, timeout=30)) as elsewhere,
    ):
        until(lambda: here.lines and elsewhere.lines, 10, "both are open")
        began = time.monotonic()
        revoke(root, parent)
        until(lambda: here.is_over, 1, "the stream of the asked process ends", every=0.02)
        until(lambda: elsewhere.is_over, 5 - (time.monotonic() - began), "the stream of the other ends", every=0.02)
        system.put("after")
    assert not here.events
    assert not elsewhere.events


def test_stream_of_an_expired_token_ends_within_five_seconds(system, root):
    token = made(root, "read", expires_in=3600)
    with following(ingress.client(system, token["token"])) as stream:
        until(lambda: stream.lines, 10, "it is open")
        ingress.expire(system, token)
        until(lambda: stream.is_over, 5, "it ends")


def test_stream_of_a_session_ends_with_the_session(system, root):
    with ingress.client(system, None) as browser:
        browser.get(root.post("/login/links").json()["url"])
        page = browser.get("/uploadform/", headers={"accept": "text/html"}).text
        (proof,) = re.findall(r'name="csrf" content="(\w+)"', page)
        watching = ingress.client(system, None, cookies=dict(browser.cookies))
        with following(watching) as stream:
            until(lambda: stream.lines, 5, "it is open")
            assert browser.post("/logout", headers={"x-csrf-token": proof}).status_code == 303
            until(lambda: stream.is_over, 5, "it ends")


# uploads


@pytest.mark.parametrize("process_asked", ["here", "elsewhere"])
def test_presigned_part_addresses_of_a_revoked_token_lead_nowhere(system, root, there, process_asked):
    token, of_others = made(root, "write", places=[f"inbox/{system.prefix}"]), set(staged(system, "parts/"))
    with ingress.client(system, token["token"]) as client:
        upload = client.post("/multipart", json={"key": f"{system.prefix}big", "size": PART + 3}).json()
        urls = client.post(f"/multipart/{upload['id']}/sign", json={"numbers": [1, 2]}).json()["urls"]
        assert httpx.put(urls["2"], content=b"end").status_code == 200
        assert len(open_in_store(system, "big")) == 1
        url = there if process_asked == "elsewhere" else system.stack.env["PENSTOCK_HTTP_URL"]
        headers = {"authorization": f"Bearer {system.stack.env['PENSTOCK_TOKEN']}"}
        assert httpx.delete(f"{url}/tokens/{token['id']}", headers=headers).status_code == 204
        until(lambda: httpx.put(urls["2"], content=b"end").status_code == 404, 5, "the address leads nowhere")
        until(lambda: client.post(f"/multipart/{upload['id']}/complete").status_code == 401, 5, "its ticket is refused")
    assert open_in_store(system, "big") == []
    until(lambda: set(staged(system, "parts/")) <= of_others, 5, "its note is gone")


@pytest.mark.parametrize("process_asked", ["here", "elsewhere"])
def test_resumable_upload_of_a_revoked_token_is_removed_with_its_parts(system, root, there, process_asked):
    token = made(root, "write", places=[f"inbox/{system.prefix}"])
    with ingress.client(system, token["token"]) as client:
        key = f"key {base64.b64encode(f'{system.prefix}slow'.encode()).decode()}"
        begun = client.post("/tus/", headers={**SPOKEN, "upload-length": str(12 * MIB), "upload-metadata": key})
        location = begun.headers["location"]
        sent = client.patch(location, headers={**BYTES, "upload-offset": "0"}, content=bytes(6 * MIB))
        assert sent.status_code == 204, sent.text
        assert len(open_in_store(system, "slow")) == 1
        url = there if process_asked == "elsewhere" else system.stack.env["PENSTOCK_HTTP_URL"]
        headers = {"authorization": f"Bearer {system.stack.env['PENSTOCK_TOKEN']}"}
        assert httpx.delete(f"{url}/tokens/{token['id']}", headers=headers).status_code == 204
        until(lambda: client.head(location, headers=SPOKEN).status_code == 401, 5, "it is refused")
    until(lambda: open_in_store(system, "slow") == [], 5, "its parts are gone")
    until(lambda: staged(system, f"tus/{location.rpartition('/')[2]}/") == [], 5, "nothing of it is left")


def test_uploads_of_a_token_that_ended_while_no_ingress_ran_are_removed_at_its_start(system, root):
    token = made(root, "write", places=[f"inbox/{system.prefix}"], expires_in=3600)
    with ingress.client(system, token["token"]) as client:
        assert client.post("/multipart", json={"key": f"{system.prefix}late", "size": 3}).status_code == 201
    assert len(open_in_store(system, "late")) == 1
    system.stop("ingress-2")
    with system.without("ingress"):
        ingress.expire(system, token)
    until(lambda: open_in_store(system, "late") == [], 20, "its parts are gone")


def test_body_that_is_on_its_way_when_its_token_is_revoked_becomes_no_object(system, root):
    token = made(root, "write", places=[f"inbox/{system.prefix}"])

    def body():
        yield b"x" * 1000
        revoke(root, token)
        yield b"x" * 1000

    with ingress.client(system, token["token"]) as client:
        path = f"/objects/inbox/{system.prefix}half"
        answer = client.put(path, content=body(), headers={"content-length": "2000"})
    assert (answer.status_code, answer.json()["code"]) == (401, "BAD_TOKEN")
    assert root.get(path).status_code == 404


# tokens and sessions


def test_tokens_made_by_a_revoked_token_end_with_it_in_every_process(system, root, there):
    made_by, line = root, []
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            line.append(made(made_by, "admin"))
            made_by = stack.enter_context(ingress.client(system, line[-1]["token"]))
        sibling = made(root, "read")
        until(lambda: {status(there, one) for one in [*line, sibling]} == {200}, 5, "all are known there")
        revoke(root, line[0])
        assert {status(system.stack.env["PENSTOCK_HTTP_URL"], one) for one in line} == {401}
        until(lambda: {status(there, one) for one in line} == {401}, 5, "they end there too")
        assert status(there, sibling) == 200
        assert not {one["id"] for one in line} & {one["id"] for one in root.get("/tokens").json()}
        revoke(root, sibling)


def test_token_made_elsewhere_by_a_token_that_was_just_revoked_is_not_made(root, there):
    """Until a process has heard of a revocation it lets the token in, and the database has the last word."""
    for _ in range(2):
        parent = made(root, "admin")
        headers = {"authorization": f"Bearer {parent['token']}"}
        until(lambda headers=headers: httpx.get(f"{there}/whoami", headers=headers).status_code == 200, 5, "known")
        revoke(root, parent)
        fields = {"name": secrets.token_hex(6), "scopes": ["admin"]}
        answer = httpx.post(f"{there}/tokens", json=fields, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "BAD_TOKEN")
        hook = httpx.post(f"{there}/webhooks", json={"url": "http://127.0.0.1:9099/"}, headers=headers)
        assert hook.status_code in {401, 422}, hook.text
        assert fields["name"] not in {one["name"] for one in root.get("/tokens").json()}
        assert parent["name"] not in {one["created_by"] for one in root.get("/webhooks").json() if one["enabled"]}


def test_links_and_sessions_of_a_revoked_token_are_worth_nothing(system, root, there):
    token = made(root, "admin")
    with ingress.client(system, token["token"]) as client:
        used, unused = (client.post("/login/links").json()["url"] for _ in range(2))
    with ingress.client(system, None) as browser, ingress.client(system, None) as late:
        browser.get(used)
        cookies = {"cookie": "; ".join(f"{name}={value}" for name, value in browser.cookies.items())}
        until(lambda: httpx.get(f"{there}/whoami", headers=cookies).status_code == 200, 5, "the session holds there")
        revoke(root, token)
        assert browser.get("/whoami").status_code == 401
        assert late.get(unused).status_code == 403
        until(lambda: httpx.get(f"{there}/whoami", headers=cookies).status_code == 401, 5, "it ends there")


def test_what_is_known_to_have_ended_stays_so_while_the_database_is_away(system, root):
    token = made(root, "admin")
    with ingress.client(system, token["token"]) as client:
        child = made(client, "write")
    revoke(root, token)
    with system.without("postgres"), ingress.client(system, child["token"]) as client:
        assert client.put(f"/objects/inbox/{system.prefix}a", content=b"x").status_code == 401
        assert client.get("/whoami").status_code == 401
    until(lambda: root.get("/tokens").status_code == 200, 20, "the database is back")
    assert status(system.stack.env["PENSTOCK_HTTP_URL"], child) == 401


# rows from before

OLD = """
INSERT INTO ingress.tokens (id, name, hash, scopes, created_at, created_by, expires_at, revoked_at) VALUES
    ('old', 'boss', '', '{admin}', '2026-01-01', 'root', NULL, '2026-01-10'),
    ('new', 'boss', '', '{admin}', '2026-01-11', 'root', '2040-01-01', NULL),
    ('old-child', 'a', '', '{read}', '2026-01-05', 'boss', NULL, NULL),
    ('new-child', 'b', '', '{admin}', '2026-01-12', 'boss', NULL, NULL),
    ('grandchild', 'c', '', '{read}', '2026-01-13', 'b', '2050-01-01', NULL),
    ('open', 'd', '', '{read}', '2026-01-13', 'everybody', NULL, NULL),
    ('odd', 'e', '', '{read}', '2026-01-13', 'never-was', NULL, NULL);
INSERT INTO ingress.webhooks (id, url, cursor, created_by, created_at) VALUES
    ('of-root', '', 0, 'root', '2026-01-05'), ('of-old', '', 0, 'boss', '2026-01-06'),
    ('of-new', '', 0, 'boss', '2026-01-12'), ('of-odd', '', 0, 'never-was', '2026-01-12');
"""


async def migrated(dsn):
    """Return the rows of before as the newest migration leaves them, in a database of their own."""
    name = f"t{secrets.token_hex(6)}"
    operator = await asyncpg.connect(dsn)
    await operator.execute(f"CREATE DATABASE {name}")
    connection = await asyncpg.connect(dsn, database=name)
    try:
        await connection.execute("CREATE SCHEMA api; CREATE SCHEMA ingress")
        for path in sorted(Path(migrations.__file__).parent.glob("*.sql")):
            if path.name.startswith("0004."):
                await connection.execute(OLD)
            await connection.execute(path.read_text())
        tokens = await connection.fetch("SELECT id, parent_id, revoked_at, expires_at FROM ingress.tokens")
        hooks = await connection.fetch("SELECT id, token_id FROM ingress.webhooks")
    finally:
        await connection.close()
        await operator.execute(f"DROP DATABASE {name}")
        await operator.close()
    return {row["id"]: row for row in tokens}, {row["id"]: row["token_id"] for row in hooks}


def test_rows_from_before_belong_to_the_token_that_held_their_makers_name(stack):
    tokens, hooks = run(migrated(stack.env["PENSTOCK_POSTGRES_DSN"]))
    assert {one: row["parent_id"] for one, row in tokens.items()} == {
        "old": "root", "new": "root", "old-child": "old", "new-child": "new", "grandchild": "new-child",
        "open": "everybody", "odd": "root",
    }  # fmt: skip
    assert {one for one, row in tokens.items() if row["revoked_at"]} == {"old", "old-child"}
    assert {one for one, row in tokens.items() if row["expires_at"]} == {"new", "new-child", "grandchild"}
    assert tokens["grandchild"]["expires_at"] == tokens["new"]["expires_at"]
    assert hooks == {"of-root": "root", "of-old": "old", "of-new": "new", "of-odd": "root"}

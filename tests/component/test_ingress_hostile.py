"""Requests that no client of good will sends: bytes that are no text, names that the store would alter, odd paths."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingress.core.encoding import require_utf8
from shared.errors import Rejected
from shared.storage import ObjectRef
from tests.fakes.ingress import TOKEN

BOUNDARY = "a-boundary"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
ALTERED = ["x__XLDIR__", "x__XLDIR__/y", "__XLDIR__", "a/__XLDIR__", "a/x__XLDIR__/b"]
NOT_UTF8 = ["%FF", "a%C3", "%ED%A0%80", "%C0%AF", "%F4%90%80%80", "%C3%28"]


@pytest.fixture
async def root(ingress):
    await ingress.dependencies.tokens.refresh()
    async with ingress.client() as client:
        yield client


async def stored(ingress):
    buckets = ("inbox", "uploads")
    return [info.ref.key for bucket in buckets async for page in ingress.store.list(bucket) for info in page]


def form(*parts):
    """Write a form of (name, filename or None, body), each as bytes."""
    written = []
    for name, filename, body in parts:
        extra = b"" if filename is None else b'; filename="%b"' % filename
        written.append(
            b'--%b\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n'
            % (BOUNDARY.encode(), name, extra, body)
        )
    return b"".join(written) + b"--%b--\r\n" % BOUNDARY.encode()


def refusal(answer):
    return answer.status_code, answer.json()["code"]


@pytest.mark.parametrize("text", NOT_UTF8)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/objects/inbox/{}"),
        ("GET", "/objects/inbox/{}"),
        ("DELETE", "/objects/inbox/{}"),
        ("GET", "/objects/inbox?prefix={}"),
        ("GET", "/objects/inbox?start_after={}"),
        ("GET", "/files/{}"),
        ("GET", "/timeline/inbox/{}"),
        ("GET", "/gethash/{}"),
        ("DELETE", "/tokens/{}"),
        ("GET", "/webhooks/{}"),
        ("GET", "/tus/{}"),
        ("GET", "/nothing?x={}"),
        ("GET", "/login?next={}"),
    ],
)
async def test_address_that_is_not_utf8_is_refused_and_named(ingress, root, method, path, text):
    answer = await root.request(method, path.format(text), content=b"x" if method == "PUT" else None)
    assert refusal(answer) == (422, "NO_UTF8")
    assert "0x" in answer.json()["detail"]
    assert await stored(ingress) == []


@given(st.binary(max_size=40))
def test_non_utf8_url_is_refused(raw):
    sent = "".join(f"%{byte:02x}" for byte in raw).encode()
    try:
        raw.decode()
    except UnicodeDecodeError:
        for path, query in ((sent, b""), (b"/", sent)):
            with pytest.raises(Rejected):
                require_utf8(path, query)
    else:
        require_utf8(sent, sent)


@pytest.mark.parametrize("value", [b"\xff", b"\xc3", b"caf\xe9"])
async def test_metadata_that_is_not_utf8_is_refused(ingress, root, value):
    answer = await root.put("/objects/inbox/a", content=b"x", headers=[(b"x-amz-meta-note", value)])
    assert refusal(answer) == (422, "NO_UTF8")
    assert "x-amz-meta-note" in answer.json()["detail"]
    assert await stored(ingress) == []


async def test_utf8_metadata_is_stored_unchanged(ingress, root):
    answer = await root.put("/objects/inbox/a", content=b"x", headers=[(b"x-amz-meta-note", "café".encode())])
    assert answer.status_code == 201
    assert (await ingress.store.head(ObjectRef("inbox", "a"))).metadata == {"note": "café"}


@pytest.mark.parametrize("name", ["penstock-owner", "Penstock-Upload", "tus-upload"])
async def test_metadata_of_the_ingress_is_not_for_clients(ingress, root, name):
    answer = await root.put("/objects/inbox/a", content=b"x", headers={f"x-amz-meta-{name}": "root"})
    assert refusal(answer) == (422, "METADATA_RESERVED")
    sent = f"key {base64.b64encode(b'b').decode()},{name} {base64.b64encode(b'mine').decode()}"
    headers = {"tus-resumable": "1.0.0", "upload-length": "0", "upload-metadata": sent}
    assert (await root.post("/tus/", headers=headers)).status_code == 201
    stored = (await ingress.store.head(ObjectRef("inbox", "b"))).metadata
    assert "mine" not in stored.values()


@pytest.mark.parametrize(
    ("method", "path", "parts"),
    [
        ("POST", "/files/", [(b"file", b"\xff.bin", b"x")]),
        ("POST", "/uploadfile/", [(b"file", b"\xd6\xd0\xce\xc4", b"x")]),
        ("PUT", "/files/upload_minio", [(b"keys_prefix", None, b"set"), (b"files", b"\xff", b"x")]),
        ("PUT", "/files/upload_minio", [(b"keys_prefix", None, b"s\xff"), (b"files", b"a", b"x")]),
        ("PUT", "/files/upload_minio", [(b"keys_prefix", None, b"s"), (b"f\xff", b"a", b"x")]),
    ],
)
async def test_names_and_fields_of_a_form_are_text_or_refused(ingress, root, method, path, parts):
    answer = await root.request(method, path, content=form(*parts), headers={**FORM, "bucket": "inbox"})
    assert answer.status_code in {400, 422}
    assert answer.json()["code"] in {"NO_UTF8", "BAD_FILENAME"}
    assert await stored(ingress) == []


@pytest.mark.parametrize("body", [b"token=%FF", b"token=\xff", b"next=%ED%A0%80"])
async def test_form_of_a_page_is_utf8_or_refused(ingress, body):
    async with ingress.client(None) as client:
        answer = await client.post(
            "/login", content=body, headers={"content-type": "application/x-www-form-urlencoded"}
        )
    assert refusal(answer) == (422, "NO_UTF8")


@pytest.mark.parametrize("key", ALTERED)
async def test_key_that_minio_would_alter_is_refused(ingress, root, key):
    extra = f"key {base64.b64encode(key.encode()).decode()}"
    headers = {"tus-resumable": "1.0.0", "upload-length": "1", "upload-metadata": extra}
    raw = key.encode()
    files = form((b"keys_prefix", None, b"set"), (b"files", raw, b"x"))
    prefixed = form((b"keys_prefix", None, raw), (b"files", b"a", b"x"))
    answers = [
        await root.put(f"/objects/inbox/{key}", content=b"x"),
        await root.get(f"/objects/inbox/{key}"),
        await root.delete(f"/objects/inbox/{key}"),
        await root.get(f"/files/{key}"),
        await root.post("/multipart", json={"key": key, "size": 1}),
        await root.post("/tus/", headers=headers),
        await root.put("/files/upload_minio", content=files, headers={**FORM, "bucket": "inbox"}),
        await root.put("/files/upload_minio", content=prefixed, headers={**FORM, "bucket": "inbox"}),
        await root.post("/files/", content=form((b"file", raw, b"x")), headers=FORM),
    ]
    assert {refusal(one) for one in answers} == {(422, "KEY_UNSAFE")}
    assert await stored(ingress) == []


@pytest.mark.parametrize("path", ["/whoami/", "/uploadform", "/docs/", "/webhooks/", "/tokens/", "/health/"])
async def test_both_spellings_of_a_path_are_served_without_a_redirect(root, path):
    answer = await root.get(path, headers={"host": "evil.example"})
    assert answer.status_code == 200
    assert "location" not in answer.headers


@pytest.mark.parametrize("path", ["/nothing", "/nothing/", "/%2Fevil.example/", "/%5Cevil.example", "/static"])
async def test_no_answer_leads_to_the_host_that_a_client_named(root, path):
    answer = await root.get(path, headers={"host": "evil.example", "x-forwarded-host": "evil.example"})
    assert answer.status_code == 404
    assert "evil.example" not in str(answer.headers)
    assert "//evil.example" not in answer.text


async def test_unexpected_error_is_answered_with_500(ingress, root, monkeypatch):
    async def fail(*_args):
        raise ZeroDivisionError("a secret detail")

    monkeypatch.setattr(ingress.dependencies.webhooks, "all", fail)
    # this transport raises whatever would have reached the server
    front_of = root._transport
    front_of.raise_app_exceptions = True
    answer = await root.get("/webhooks", headers={"authorization": f"Bearer {TOKEN}"})
    assert refusal(answer) == (500, "INTERNAL_SERVER_ERROR")
    assert "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b'{"name":' * 30_000, b'{"rate": 1' + b"0" * 5000 + b"}", b'{"rate": NaN}', b"\xff", b'"\x00"'],
)
async def test_unparsable_json_is_refused(root, body):
    answer = await root.post("/tokens", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in {400, 422}


async def test_refusal_may_quote_half_of_a_surrogate_pair(root):
    body = b'{"key": "a", "size": 1, "bucket": "\\ud800"}'
    answer = await root.post("/multipart", content=body, headers={"content-type": "application/json"})
    assert refusal(answer) == (404, "NO_SUCH_BUCKET")
    assert "\\ud800" in answer.json()["detail"]

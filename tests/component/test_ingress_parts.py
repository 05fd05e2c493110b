"""Uploads in parts over HTTP: tickets, addresses, completion; a store in memory takes the parts."""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from services.ingress.core.upload_ids import OWNER_KEY
from shared.storage import ObjectGone, ObjectRef
from tests.fakes.ingress import Ingress, settings

PART = 16 << 20
BODY = bytes(PART) + b"the end"
REQUEST = {"key": "lab/a.bin", "size": len(BODY)}


@pytest.fixture
async def root(ingress):
    await ingress.dependencies.tokens.refresh()
    async with ingress.client() as client:
        yield client


async def begun(client, **fields):
    answer = await client.post("/multipart", json={**REQUEST, **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def send(ingress, client, upload, number, body):
    """Send a part to the address that was signed for it, as a browser would."""
    (url,) = (await client.post(f"/multipart/{upload['id']}/sign", json={"numbers": [number]})).json()["urls"].values()
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    assert query["X-Amz-SignedHeaders"] == "content-length;host"
    assert query["X-Amz-Credential"].startswith("penstock-parts/")
    ref = ObjectRef(upload["bucket"], upload["key"])
    await ingress.store.uploads.send(ref, query["uploadId"], int(query["partNumber"]), body, size=len(body))


async def staged(ingress):
    return [info.ref.key async for page in ingress.store.list("uploads") for info in page]


async def test_completed_parts_become_an_object_and_leave_nothing(ingress, root):
    upload = await begun(root, content_type="text/csv", last_modified=1_700_000_000_500)
    assert (upload["parts"], upload["part_bytes"], upload["sent"], upload["file_id"]) == (2, PART, [], None)
    await send(ingress, root, upload, 2, BODY[PART:])
    await send(ingress, root, upload, 1, BODY[:PART])
    done = await root.post(f"/multipart/{upload['id']}/complete")
    assert done.status_code == 200
    info, body = await ingress.store.read(ObjectRef("inbox", "lab/a.bin"))
    assert body == BODY
    assert done.json() == {
        "bucket": "inbox",
        "key": "lab/a.bin",
        "etag": info.etag,
        "size": len(BODY),
        "file_id": None,
    }
    assert (info.content_type, info.metadata[OWNER_KEY], info.metadata["mtime"]) == (
        "text/csv",
        "root",
        "1700000000.500",
    )
    assert await staged(ingress) == []


async def test_upload_by_filename_has_an_id_for_its_digests(root):
    upload = await begun(root, key=None, filename="C:\\data\\a.bin")
    assert len(upload["file_id"]) == 32
    assert upload["key"] == f"uploads/{upload['file_id']}/a.bin"


async def test_interrupted_upload_lists_its_complete_parts(ingress, root):
    upload = await begun(root)
    await send(ingress, root, upload, 1, BODY[:PART])
    await send(ingress, root, upload, 2, b"half")
    upload_status = (await root.get(f"/multipart/{upload['id']}")).json()
    assert upload_status == {**upload, "sent": [{"number": 1, "size": PART}]}


async def test_completion_with_missing_parts_lists_them_and_stays_open(ingress, root):
    upload = await begun(root)
    await send(ingress, root, upload, 1, b"short")
    refused = await root.post(f"/multipart/{upload['id']}/complete")
    assert (refused.status_code, refused.json()["code"]) == (409, "UPLOAD_INCOMPLETE")
    assert refused.json()["missing"] == [1, 2]
    with pytest.raises(ObjectGone):
        await ingress.store.head(ObjectRef("inbox", "lab/a.bin"))
    assert (await root.get(f"/multipart/{upload['id']}")).status_code == 200


async def test_completion_is_idempotent(ingress, root):
    upload = await begun(root)
    await send(ingress, root, upload, 1, BODY[:PART])
    await send(ingress, root, upload, 2, BODY[PART:])
    first, second = [await root.post(f"/multipart/{upload['id']}/complete") for _ in range(2)]
    assert (second.status_code, second.json()) == (200, first.json())
    await ingress.store.put(ObjectRef("inbox", "lab/a.bin"), b"of somebody else")
    assert (await root.post(f"/multipart/{upload['id']}/complete")).json()["code"] == "NO_SUCH_UPLOAD"


async def test_one_that_is_given_up_leaves_nothing(ingress, root):
    upload = await begun(root)
    await send(ingress, root, upload, 1, BODY[:PART])
    assert (await root.delete(f"/multipart/{upload['id']}")).status_code == 204
    assert await staged(ingress) == []
    assert (await root.get(f"/multipart/{upload['id']}")).json()["code"] == "NO_SUCH_UPLOAD"
    assert (await root.delete(f"/multipart/{upload['id']}")).status_code == 204


async def test_another_ones_upload_does_not_exist(ingress, root):
    upload = await begun(root)
    token = (await root.post("/tokens", json={"name": "w", "scopes": ["write", "admin"]})).json()["token"]
    ask = [("GET", ""), ("POST", "/complete"), ("DELETE", "")]
    async with ingress.client(token) as other:
        answers = [await other.request(method, f"/multipart/{upload['id']}{path}") for method, path in ask]
        answers.append(await other.post(f"/multipart/{upload['id']}/sign", json={"numbers": [1]}))
    assert {(one.status_code, one.json()["code"]) for one in answers} == {(404, "NO_SUCH_UPLOAD")}
    assert (await root.get(f"/multipart/{upload['id']}")).status_code == 200


@pytest.mark.parametrize("ticket", ["x", "a.b.c", "%00", "é"])
async def test_forged_ticket_is_none(root, ticket):
    assert (await root.get(f"/multipart/{ticket}")).json()["code"] == "NO_SUCH_UPLOAD"


async def test_reader_begins_nothing(ingress, root):
    token = (await root.post("/tokens", json={"name": "r", "scopes": ["read"]})).json()["token"]
    async with ingress.client(token) as reader:
        assert (await reader.post("/multipart", json=REQUEST)).json()["code"] == "WRONG_SCOPE"
    assert await staged(ingress) == []


@pytest.mark.parametrize(
    ("wrong", "status", "code"),
    [
        ({"size": 0}, 422, "BAD_REQUEST"),
        ({"size": 10**12}, 413, "TOO_LARGE"),
        ({"key": "../x"}, 422, "KEY_UNSAFE"),
        ({"key": ""}, 422, "NAME_EMPTY"),
        ({"key": None}, 422, "BAD_REQUEST"),
        ({"filename": "both"}, 422, "BAD_REQUEST"),
        ({"bucket": "nowhere"}, 404, "NO_SUCH_BUCKET"),
        ({"bucket": "uploads"}, 404, "NO_SUCH_BUCKET"),
        ({"content_type": "a\r\nx-amz-acl: public"}, 422, "BAD_REQUEST"),
        ({"other": 1}, 422, "BAD_REQUEST"),
    ],
)
async def test_invalid_multipart_request_is_refused(ingress, root, wrong, status, code):
    answer = await root.post("/multipart", json={**REQUEST, **wrong})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert await staged(ingress) == []


@pytest.mark.parametrize("numbers", [[], [0], [3], [1] * 101, ["x"]])
async def test_addresses_are_given_for_parts_that_there_are(root, numbers):
    upload = await begun(root)
    assert (await root.post(f"/multipart/{upload['id']}/sign", json={"numbers": numbers})).status_code == 422


async def test_addresses_lead_to_the_store_as_browsers_know_it():
    ingress = Ingress(settings=settings(s3_public_endpoint="https://s3.example/"))
    async with ingress.client() as root:
        upload = await begun(root)
        answer = await root.post(f"/multipart/{upload['id']}/sign", json={"numbers": [1, 2]})
    assert {url.split("?")[0] for url in answer.json()["urls"].values()} == {"https://s3.example/inbox/lab/a.bin"}


async def test_expired_upload_is_removed(ingress, root, monkeypatch):
    upload = await begun(root)
    await ingress.dependencies.multipart.remove_expired()
    assert len(await staged(ingress)) == 1
    later = datetime.now(UTC) + timedelta(days=7, minutes=1)
    monkeypatch.setattr(
        "services.ingress.adapters.multipart_uploads.datetime", type("Later", (), {"now": lambda _zone: later})
    )
    answer = await root.get(f"/multipart/{upload['id']}")
    assert (answer.status_code, answer.json()["code"]) == (410, "UPLOAD_EXPIRED")
    await ingress.dependencies.multipart.remove_expired()
    assert await staged(ingress) == []
    assert not ingress.store.uploads.is_open


async def test_while_the_store_is_away_nothing_begins(ingress, root):
    ingress.store.is_away = True
    answer = await root.post("/multipart", json=REQUEST)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")

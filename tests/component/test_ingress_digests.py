"""The digest API over HTTP, on a store and rows in memory."""

import pytest

from services.ingress.core.access import Principal
from services.ingress.core.upload_status import Upload
from shared.storage import ObjectRef
from tests.fakes.ingress import Ingress, settings

FAILED_MEMBERS = {"success": False, "id": None, "celery_status": None, "celery_id": None}
INVALID = {"status": "INVALID_ID", "hash": None}
NOBODYS = "0" * 32
SPELLINGS = [
    (method, root + path, brings_json)
    for root in ("", "/get_hash")
    for method, path, brings_json in (
        ("GET", "/gethash/?file_id={id}", False),
        ("GET", "/gethash?file_id={id}", False),
        ("GET", "/gethash/{id}", False),
        ("GET", "/gethash/{id}/", False),
        ("GET", "/gethash/", True),
        ("POST", "/gethash/", True),
        ("GET", "/gethash", True),
        ("POST", "/gethash", True),
    )
]


async def upload(client, name="a.txt", body=b"hello", path="/uploadfile/", **options):
    return await client.post(path, files={"file": (name, body, "text/plain")}, **options)


def done(made, **changes):
    row = {"owner": "root", "etag": made["etag"], "hashed_etag": made["etag"], "size": made["size"], "state": "stored"}
    found = {"status": "succeeded", "digests": {"md5": "5d41", "sha256": "2cf2"}}
    return Upload(made["id"], made["bucket"], made["key"], **{**row, **found, **changes})


def as_principal(ingress, number, *scopes, **more):
    """Let every request come from this principal."""
    ingress.dependencies.tokens.authenticate = _always(Principal(number, number, frozenset(scopes), **more))


def _always(value):
    async def answer(_text):
        return value

    return answer


@pytest.mark.parametrize("path", ["/uploadfile/", "/uploadfile"])
async def test_upload_is_stored_under_an_id_of_its_own(ingress, path):
    async with ingress.client() as client:
        answer = await upload(client, r"C:\me\a b.txt", path=path)
    body = answer.json()
    assert answer.status_code == 200
    number = body["id"]
    key = f"uploads/{number}/a b.txt"
    assert body == {
        "success": True,
        "id": number,
        "celery_status": "PENDING",
        "celery_id": number,
        "bucket": "inbox",
        "key": key,
        "etag": "5d41402abc4b2a76b9719d911017c592",
        "size": 5,
    }
    info, body = await ingress.store.read(ObjectRef("inbox", key))
    assert (body, info.content_type, info.metadata) == (b"hello", "text/plain", {"penstock-owner": "root"})


@pytest.mark.parametrize("query", ["algorithm=sha512&algorithm=CRC-32C", "algorithm=sha512,crc32c"])
async def test_extra_digests_are_added_to_the_defaults(ingress, query):
    async with ingress.client() as client:
        body = (await upload(client, path=f"/uploadfile/?{query}")).json()
    info = await ingress.store.head(ObjectRef("inbox", body["key"]))
    assert info.metadata["penstock-digests"] == "md5,sha256,blake3,sha512,crc32c"


async def test_default_digests_are_those_of_the_settings():
    ingress = Ingress(settings(hasher_digests=("md5",)))
    async with ingress.client() as client:
        body = (await upload(client, path="/uploadfile/?algorithm=sha512")).json()
    info = await ingress.store.head(ObjectRef("inbox", body["key"]))
    assert info.metadata["penstock-digests"] == "md5,sha512"


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        ({"files": {"other": ("a", b"x")}}, 422, "WRONG_FIELD"),
        ({"files": {"file": ("..", b"x")}}, 422, "KEY_UNSAFE"),
        ({"files": {"file": ("\u202egpj.exe", b"x")}}, 422, "KEY_UNSAFE"),
        ({"files": {"file": ("x" * 1000, b"x")}}, 422, "KEY_TOO_LONG"),
        ({"files": [("file", ("a", b"x")), ("file", ("b", b"x"))]}, 422, "TOO_MANY_FILES"),
        ({"data": {"file": "text"}, "files": {}}, 415, "NO_FORM"),
        ({"json": {}}, 415, "NO_FORM"),
        ({"files": {"file": ("a", b"x")}, "params": {"algorithm": "rot13"}}, 422, "UNKNOWN_DIGEST"),
    ],
)
async def test_refused_upload_has_the_former_members_and_stores_nothing(ingress, sent, status, code):
    async with ingress.client() as client:
        answer = await client.post("/uploadfile/", **sent)
    body = answer.json()
    assert (answer.status_code, body["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert FAILED_MEMBERS.items() <= body.items()
    assert [page async for page in ingress.store.list("inbox")] == []


async def test_unauthenticated_upload_has_the_former_members(ingress):
    async with ingress.client(None) as client:
        answer = await upload(client)
    assert answer.status_code == 401
    assert FAILED_MEMBERS.items() <= answer.json().items()


async def test_read_scope_cannot_upload(ingress):
    as_principal(ingress, "reader", "read")
    async with ingress.client() as client:
        answer = await upload(client)
    assert (answer.status_code, answer.json()["code"]) == (403, "WRONG_SCOPE")
    assert FAILED_MEMBERS.items() <= answer.json().items()


async def test_store_that_is_away_is_a_failure_that_may_be_tried_again(ingress):
    ingress.store.is_away = True
    async with ingress.client() as client:
        answer = await upload(client)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert FAILED_MEMBERS.items() <= answer.json().items()


@pytest.mark.parametrize(("method", "path", "brings_json"), SPELLINGS)
async def test_digest_is_returned_by_every_spelling(ingress, method, path, brings_json):
    async with ingress.client() as client:
        made = (await upload(client)).json()
        ingress.dependencies.views.uploads["inbox", made["id"]] = done(made)
        address = path.format(id=made["id"])
        answer = await client.request(method, address, **({"json": {"file_id": made["id"]}} if brings_json else {}))
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "SUCCESS",
        "hash": "5d41",
        "id": made["id"],
        "bucket": "inbox",
        "key": made["key"],
        "algorithm": "md5",
        "digests": {"md5": "5d41", "sha256": "2cf2"},
        "size": 5,
        "error": None,
        "progress": None,
    }


async def test_unrecorded_upload_is_pending(ingress):
    async with ingress.client() as client:
        made = (await upload(client)).json()
        body = (await client.get(f"/gethash/{made['id']}")).json()
    assert (body["status"], body["hash"], body["key"], body["size"]) == ("PENDING", None, made["key"], 5)


@pytest.mark.parametrize("number", [NOBODYS, "1", "-1", "None", "%00", "%2e%2e", "x" * 500])
@pytest.mark.parametrize(("method", "path", "brings_json"), SPELLINGS)
async def test_malformed_id_is_invalid_and_not_pending(ingress, method, path, brings_json, number):
    async with ingress.client() as client:
        sent = {"json": {"file_id": number}} if brings_json else {}
        answer = await client.request(method, path.format(id=number), **sent)
    assert (answer.status_code, answer.json()) == (200, INVALID)


@pytest.mark.parametrize("said", [b"[]", b"{}", b'{"file_id": 7}', b'{"file_id": null}', b'"text"', b""])
async def test_question_without_an_id_is_invalid(ingress, said):
    async with ingress.client() as client:
        answer = await client.post("/gethash/", content=said)
    assert (answer.status_code, answer.json()) == (200, INVALID)


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        (b"file_id=1", 400, "BROKEN_BODY"),
        (b"\xff\xfe\x00", 400, "BROKEN_BODY"),
        (b"[" * 4000, 400, "BROKEN_BODY"),
        (b" " * 5000, 413, "TOO_LARGE"),
    ],
)
async def test_question_that_cannot_be_read_is_refused(ingress, said, status, code):
    async with ingress.client() as client:
        answer = await client.post("/gethash/", content=said)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_id_of_another_is_none_unless_one_administers(ingress):
    async with ingress.client() as client:
        as_principal(ingress, "mine", "read", "write")
        made = (await upload(client)).json()
        waiting = f"/gethash/{made['id']}"
        for recorded in (False, True):
            if recorded:
                ingress.dependencies.views.uploads["inbox", made["id"]] = done(made, owner="mine")
            as_principal(ingress, "other", "read", "write", "run")
            assert (await client.get(waiting)).json() == INVALID
            assert (await client.get(f"/links/{made['id']}")).status_code == 404
            as_principal(ingress, "mine", "read", prefixes=("inbox/elsewhere/",))
            assert (await client.get(waiting)).json() == INVALID
            for number, scope in (("mine", "read"), ("other", "admin")):
                as_principal(ingress, number, scope)
                assert (await client.get(waiting)).json()["status"] == ("SUCCESS" if recorded else "PENDING")


async def test_of_digests_without_an_object_row_the_store_knows_the_owner(ingress):
    async with ingress.client() as client:
        as_principal(ingress, "mine", "read", "write")
        made = (await upload(client)).json()
        ingress.dependencies.views.uploads["inbox", made["id"]] = done(made, owner=None, state=None)
        assert (await client.get(f"/gethash/{made['id']}")).json()["status"] == "SUCCESS"
        as_principal(ingress, "other", "read")
        assert (await client.get(f"/gethash/{made['id']}")).json() == INVALID


@pytest.mark.parametrize(("requested", "code"), [("rot13", "UNKNOWN_DIGEST"), ("sha512", "NOT_COMPUTED")])
async def test_digest_that_is_not_there_is_refused(ingress, requested, code):
    async with ingress.client() as client:
        made = (await upload(client)).json()
        ingress.dependencies.views.uploads["inbox", made["id"]] = done(made)
        answer = await client.get(f"/gethash/?file_id={made['id']}&algorithm={requested}")
    assert (answer.status_code, answer.json()["code"]) == (422, code)


async def test_database_outage_is_503_and_uploads_work(ingress):
    ingress.dependencies.views.is_away = True
    async with ingress.client() as client:
        made = await upload(client)
        answer = await client.get(f"/gethash/{made.json()['id']}")
    assert made.status_code == 200
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


async def test_way_of_an_upload_can_be_followed(ingress):
    async with ingress.client() as client:
        made = (await upload(client)).json()
        ingress.dependencies.views.uploads["inbox", made["id"]] = done(
            made, revision=3, seen_by="live", correlation_id="c"
        )
        body = (await client.get(f"/links/{made['id']}")).json()
        missing = await client.get(f"/links/{NOBODYS}")
    assert body["object"]["key"] == made["key"]
    assert body["event"] == {"correlation_id": "c", "seen_by": "live", "revision": 3, "at": None}
    assert body["result"]["digests"]["md5"] == "5d41"
    assert (missing.status_code, missing.json()["code"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize("path", ["/stats/database", "/stats/workers"])
async def test_statistics_need_the_scope_read_and_their_servers(ingress, path):
    async with ingress.client() as client:
        assert (await client.get(path)).status_code == 200
        ingress.dependencies.views.is_away = True
        away = await client.get(path)
        as_principal(ingress, "writer", "write")
        refused = await client.get(path)
    assert (away.status_code, away.headers["retry-after"]) == (503, "5")
    assert (refused.status_code, refused.json()["code"]) == (403, "WRONG_SCOPE")


async def test_workers_without_kafka_are_503(ingress):
    ingress.dependencies.consumer_groups.is_away = True
    async with ingress.client() as client:
        assert (await client.get("/stats/workers")).status_code == 503


async def test_token_with_prefixes_does_not_see_workers(ingress):
    as_principal(ingress, "part", "read", prefixes=("inbox/mine/",))
    async with ingress.client() as client:
        assert (await client.get("/stats/workers")).json()["code"] == "WRONG_PLACE"

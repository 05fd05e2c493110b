"""The digest API on real servers: old clients' own commands, every stage of an upload, servers away."""

import asyncio
import hashlib
import json
import subprocess
import time

import asyncpg
import pytest

from tests.support import ingress
from tests.support.stores import with_switches
from tests.support.system import digests_of
from tests.support.waiting import until

pytestmark = pytest.mark.integration

BODY = b"digest me\n"
MD5 = hashlib.md5(BODY, usedforsecurity=False).hexdigest()
INVALID = {"status": "INVALID_ID", "hash": None}
FAILED_MEMBERS = {"success": False, "id": None, "celery_status": None, "celery_id": None}
QUICK_SECONDS = 5.0
SPELLINGS = (
    ("-X", "GET", "{url}/gethash/?file_id={id}", "-H", "accept: application/json"),
    ("{url}/gethash?file_id={id}",),
    ("{url}/gethash/{id}",),
    ("{url}/get_hash/gethash/?file_id={id}",),
    ("{url}/get_hash/gethash/{id}",),
    ("-X", "GET", "{url}/get_hash/gethash/", "--json", '{{"file_id": "{id}"}}'),
    ("-X", "GET", "{url}/gethash/", "--json", '{{"file_id": "{id}"}}'),
    ("-X", "POST", "{url}/get_hash/gethash/", "--json", '{{"file_id": "{id}"}}'),
)


@pytest.fixture
def client(system):
    ingress.serve(system)
    with ingress.client(system) as client:
        yield client


def upload(client, body=BODY, name="a.txt", **query):
    answer = client.post("/uploadfile/", files={"file": (name, body)}, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def digest(client, number, **query):
    answer = client.get("/gethash/", params={"file_id": number, **query})
    assert answer.status_code == 200, answer.text
    return answer.json()


def comes_to(client, number, status, within=60.0):
    return until(lambda: (found := digest(client, number))["status"] == status and found, within, f"{number} {status}")


def curl(*words):
    done = subprocess.run(("curl", "-sS", *words), capture_output=True, check=True, timeout=60)
    return json.loads(done.stdout)


def test_the_commands_of_old_clients_work_unchanged(system, tmp_path):
    url = ingress.serve(system, auth="none")
    file = tmp_path / "a file.png"
    file.write_bytes(BODY)
    made = curl(
        *("-X", "POST", f"{url}/uploadfile/", "-H", "accept: application/json"),
        *("-H", "Content-Type: multipart/form-data", "-F", f"file=@{file};type=image/png"),
    )
    assert (made["success"], made["celery_status"], made["celery_id"]) == (True, "PENDING", made["id"])

    def asked(spelling, number):
        return curl(*(word.format(url=url, id=number) for word in spelling))

    until(lambda: asked(SPELLINGS[0], made["id"])["status"] == "SUCCESS", 60, "the digest")
    for spelling in SPELLINGS:
        found = asked(spelling, made["id"])
        assert (found["status"], found["hash"]) == ("SUCCESS", MD5), spelling
        for strange in ("0" * 32, "1", "-1"):
            assert asked(spelling, strange) == INVALID, spelling
    failed = curl("-F", "wrong=@-;filename=a", f"{url}/uploadfile/")
    assert FAILED_MEMBERS.items() <= failed.items()


def test_every_digest_that_was_asked_for_is_told(client):
    body = b"x" * (6 << 20)  # leased work, and a multipart upload
    made = upload(client, body, algorithm="SHA-512,crc32c")
    found = comes_to(client, made["id"], "SUCCESS")
    assert found["digests"].keys() == {"md5", "sha256", "blake3", "sha512", "crc32c"}
    assert digests_of(body, ("md5", "sha256", "blake3", "sha512")).items() <= found["digests"].items()
    assert digest(client, made["id"], algorithm="sha512")["hash"] == hashlib.sha512(body).hexdigest()
    assert found["size"] == len(body)
    missing = client.get(f"/gethash/{made['id']}", params={"algorithm": "sha1"})
    assert (missing.status_code, missing.json()["code"]) == (422, "NOT_COMPUTED")


def test_a_digest_that_was_told_stays_when_the_object_is_removed(system, client):
    made = upload(client)
    found = comes_to(client, made["id"], "SUCCESS")
    system.s3.delete_object(Bucket="inbox", Key=made["key"])
    question = "SELECT count(*) FROM api.digests WHERE bucket = 'inbox' AND key = $1"
    until(lambda: links(client, made)["object"]["state"] == "removed", 60, "ingest knows")
    until(lambda: asyncio.run(counted(system, question, made["key"])) == 0, 60, "the hasher knows")
    assert digest(client, made["id"]) == found
    known = client.get(f"/timeline/inbox/{made['key']}").json()
    assert (known["object"]["state"], known["digests"][-1]["digests"]) == ("removed", found["digests"])


async def counted(system, question, *values):
    connection = await asyncpg.connect(system.stack.env["PENSTOCK_POSTGRES_DSN"])
    try:
        return await connection.fetchval(question, *values)
    finally:
        await connection.close()


def test_the_stages_of_a_slow_one_are_seen(system, client):
    system.stop("hasher")
    made = upload(client)
    until(lambda: digest(client, made["id"])["status"] == "PENDING" and links(client, made)["event"], 60, "its event")
    system.serve("hasher", hasher_delay=3)
    started = until(
        lambda: (found := digest(client, made["id"])).get("phase") == "reading" and found, 60, "its reading"
    )
    assert (started["status"], started["hash"]) == ("PENDING", None)
    assert links(client, made)["work"]["state"] == "running"
    assert comes_to(client, made["id"], "SUCCESS")["hash"] == MD5
    system.serve("hasher")


def links(client, made):
    return client.get(f"/links/{made['id']}").json()


def test_the_way_of_an_upload_can_be_followed_from_its_id_to_the_result(system, client):
    made = upload(client, bytes(5 << 20))
    comes_to(client, made["id"], "SUCCESS")
    found = until(lambda: (one := links(client, made))["work"]["state"] == "succeeded" and one, 30, "its work's end")
    (row,) = system.database.rows("SELECT * FROM api.objects WHERE key = $1", made["key"])
    assert (found["object"]["key"], found["object"]["etag"]) == (made["key"], made["etag"])
    assert found["event"]["correlation_id"] == row["correlation_id"]
    assert (found["event"]["revision"], found["event"]["seen_by"]) == (row["revision"], row["seen_by"])
    assert found["work"]["attempts"] == 1
    assert (found["result"]["status"], found["result"]["etag"]) == ("succeeded", made["etag"])


def test_a_digest_that_failed_says_so_and_why(system, client):
    number = "f" * 31 + "0"
    wish = {"penstock-digests": "rot13", "penstock-owner": "root"}
    system.s3.put_object(Bucket="inbox", Key=f"uploads/{number}/a", Body=b"x", Metadata=wish)
    found = comes_to(client, number, "FAILURE")
    assert found["hash"] is None
    assert "rot13" in found["error"]


def test_an_object_that_is_removed_once_it_is_hashed_keeps_its_digest(system, client):
    system.serve("hasher", hasher_delete_after=True)
    with with_switches(system.stack, hasher_delete_after=True):
        made = upload(client)
        comes_to(client, made["id"], "SUCCESS")
        until(lambda: links(client, made)["object"]["state"] == "removed", 30, "the removal")
    assert digest(client, made["id"])["hash"] == MD5
    system.serve("hasher")


def test_an_object_that_was_removed_before_it_was_read_is_a_failure(system, client):
    system.stop("hasher")
    made = upload(client)
    system.s3.delete_object(Bucket="inbox", Key=made["key"])
    system.serve("hasher")
    assert "removed" in comes_to(client, made["id"], "FAILURE")["error"]


def test_the_id_of_another_token_is_none(system, client):
    mine, other = (
        client.post("/tokens", json={"name": f"{name}-{system.prefix[:-1]}", "scopes": ["read", "write"]}).json()
        for name in ("mine", "other")
    )
    with ingress.client(system, mine["token"]) as owner, ingress.client(system, other["token"]) as stranger:
        made = upload(owner)
        assert digest(stranger, made["id"]) == INVALID
        assert comes_to(owner, made["id"], "SUCCESS")["hash"] == MD5
        assert digest(stranger, made["id"]) == INVALID
        assert stranger.get(f"/links/{made['id']}").status_code == 404
        assert digest(client, made["id"])["hash"] == MD5
    for one in (mine, other):
        client.delete(f"/tokens/{one['id']}")


def test_the_database_is_counted(system, client):
    comes_to(client, upload(client, bytes(5 << 20))["id"], "SUCCESS")
    found = client.get("/stats/database").json()
    (row,) = system.database.rows(
        "SELECT count(*) AS n, sum(size)::bigint AS bytes FROM api.digests WHERE bucket = 'inbox'"
    )
    inbox = [one for one in found["digests"]["by_bucket"] if one["bucket"] == "inbox"]
    assert (sum(one["versions"] for one in inbox), sum(one["bytes"] for one in inbox)) == (row["n"], row["bytes"])
    assert found["objects"]["known"] > 0
    assert ("digest", "succeeded") in {(one["queue"], one["state"]) for one in found["work"]}
    assert {"hasher.digests", "ingest.objects", "work.items"} <= {one["name"] for one in found["tables"]}


def test_who_sees_a_part_counts_that_part(system, client):
    name = f"part-{system.prefix[:-1]}"
    asked = {"name": name, "scopes": ["read"], "places": [f"inbox/{system.prefix}"]}
    part = client.post("/tokens", json=asked).json()
    system.put("one", b"12345")
    system.hashed("one")
    with ingress.client(system, part["token"]) as limited:
        found = limited.get("/stats/database").json()
        assert limited.get("/stats/workers").status_code == 403
    assert found["digests"]["by_status"] == {"succeeded": 1}
    assert (found["digests"]["bytes"], found["objects"]["known"]) == (5, 1)
    client.delete(f"/tokens/{part['id']}")


def test_the_workers_are_told_with_their_partitions_lag_and_rate(system, client):
    def hasher():
        groups = {one["group"]: one for one in client.get("/stats/workers").json()["groups"]}
        return groups["hasher"]

    first = until(lambda: (one := hasher())["state"] == "stable" and one["lag"] == 0 and one, 60, "a hasher at rest")
    assert first["last_seen"] is not None
    assert {part for one in first["members"] for part in one["partitions"]} == {
        f"objects.changed.v1/{number}" for number in range(6)
    }
    assert all(one["client_id"].startswith("penstock-hasher") and one["host"] for one in first["members"])
    system.put_all([f"{number:03}" for number in range(50)])
    busy = until(lambda: (one := hasher())["topics"][0]["rate"] and one, 60, "a rate")
    assert busy["rate_over_seconds"] >= 1


def quickly(ask):
    started = time.monotonic()
    answer = ask()
    assert time.monotonic() - started < QUICK_SECONDS
    return answer


def test_with_postgres_stopped_uploads_work_and_questions_are_told_to_come_again(system, client):
    with system.without("postgres"):
        made = upload(client)
        for path in (f"/gethash/{made['id']}", f"/links/{made['id']}", "/stats/database", "/stats/workers"):
            answer = quickly(lambda path=path: client.get(path))
            assert (answer.status_code, "retry-after" in answer.headers) == (503, True), path
    until(lambda: client.get(f"/gethash/{made['id']}").status_code == 200, 60, "an answer")
    assert comes_to(client, made["id"], "SUCCESS", within=90)["hash"] == MD5


async def test_a_question_that_the_database_holds_up_does_not_hang(system, client):
    holder = await asyncpg.connect(system.stack.env["PENSTOCK_POSTGRES_DSN"])
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE hasher.digests IN ACCESS EXCLUSIVE MODE")
            answer = await asyncio.to_thread(quickly, lambda: client.get(f"/gethash/{'0' * 32}"))
    finally:
        await holder.close()
    assert (answer.status_code, "retry-after" in answer.headers) == (503, True)


def test_with_kafka_stopped_uploads_work_and_are_hashed_later(system, client):
    with system.without("kafka"):
        made = upload(client)
        assert digest(client, made["id"])["status"] == "PENDING"
        workers = quickly(lambda: client.get("/stats/workers"))
        assert (workers.status_code, "retry-after" in workers.headers) == (503, True)
    assert comes_to(client, made["id"], "SUCCESS", within=90)["hash"] == MD5

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
from tests.support.waiting import until
from tests.support.world import digests_of

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
def door(world):
    ingress.serve(world)
    with ingress.client(world) as client:
        yield client


def upload(client, body=BODY, name="a.txt", **query):
    answer = client.post("/uploadfile/", files={"file": (name, body)}, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def told(client, number, **query):
    answer = client.get("/gethash/", params={"file_id": number, **query})
    assert answer.status_code == 200, answer.text
    return answer.json()


def comes_to(client, number, status, within=60.0):
    return until(lambda: (found := told(client, number))["status"] == status and found, within, f"{number} {status}")


def curl(*words):
    done = subprocess.run(("curl", "-sS", *words), capture_output=True, check=True, timeout=60)
    return json.loads(done.stdout)


def test_the_commands_of_old_clients_work_unchanged(world, tmp_path):
    url = ingress.serve(world, auth="none")
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


def test_every_digest_that_was_asked_for_is_told(door):
    body = b"x" * (6 << 20)  # leased work, and a multipart upload
    made = upload(door, body, algorithm="SHA-512,crc32c")
    found = comes_to(door, made["id"], "SUCCESS")
    assert found["digests"].keys() == {"md5", "sha256", "blake3", "sha512", "crc32c"}
    assert digests_of(body, ("md5", "sha256", "blake3", "sha512")).items() <= found["digests"].items()
    assert told(door, made["id"], algorithm="sha512")["hash"] == hashlib.sha512(body).hexdigest()
    assert found["size"] == len(body)
    missing = door.get(f"/gethash/{made['id']}", params={"algorithm": "sha1"})
    assert (missing.status_code, missing.json()["code"]) == (422, "NOT_COMPUTED")


def test_a_digest_that_was_told_stays_when_the_object_is_removed(world, door):
    made = upload(door)
    found = comes_to(door, made["id"], "SUCCESS")
    world.s3.delete_object(Bucket="inbox", Key=made["key"])
    question = "SELECT count(*) FROM api.digests WHERE bucket = 'inbox' AND key = $1"
    until(lambda: links(door, made)["object"]["state"] == "removed", 60, "ingest knows")
    until(lambda: asyncio.run(counted(world, question, made["key"])) == 0, 60, "the hasher knows")
    assert told(door, made["id"]) == found
    known = door.get(f"/timeline/inbox/{made['key']}").json()
    assert (known["object"]["state"], known["digests"][-1]["digests"]) == ("removed", found["digests"])


async def counted(world, question, *values):
    connection = await asyncpg.connect(world.stack.env["PENSTOCK_POSTGRES_DSN"])
    try:
        return await connection.fetchval(question, *values)
    finally:
        await connection.close()


def test_the_stages_of_a_slow_one_are_seen(world, door):
    world.stop("hasher")
    made = upload(door)
    until(lambda: told(door, made["id"])["status"] == "PENDING" and links(door, made)["event"], 60, "its event")
    world.serve("hasher", hasher_delay=3)
    started = until(lambda: (found := told(door, made["id"])).get("phase") == "reading" and found, 60, "its reading")
    assert (started["status"], started["hash"]) == ("PENDING", None)
    assert links(door, made)["work"]["state"] == "running"
    assert comes_to(door, made["id"], "SUCCESS")["hash"] == MD5
    world.serve("hasher")


def links(door, made):
    return door.get(f"/links/{made['id']}").json()


def test_the_way_of_an_upload_can_be_followed_from_its_id_to_the_result(world, door):
    made = upload(door, bytes(5 << 20))
    comes_to(door, made["id"], "SUCCESS")
    found = until(lambda: (one := links(door, made))["work"]["state"] == "succeeded" and one, 30, "its work's end")
    (row,) = world.database.rows("SELECT * FROM api.objects WHERE key = $1", made["key"])
    assert (found["object"]["key"], found["object"]["etag"]) == (made["key"], made["etag"])
    assert found["event"]["correlation_id"] == row["correlation_id"]
    assert (found["event"]["revision"], found["event"]["seen_by"]) == (row["revision"], row["seen_by"])
    assert found["work"]["attempts"] == 1
    assert (found["result"]["status"], found["result"]["etag"]) == ("succeeded", made["etag"])


def test_a_digest_that_failed_says_so_and_why(world, door):
    number = "f" * 31 + "0"
    wish = {"penstock-digests": "rot13", "penstock-owner": "root"}
    world.s3.put_object(Bucket="inbox", Key=f"uploads/{number}/a", Body=b"x", Metadata=wish)
    found = comes_to(door, number, "FAILURE")
    assert found["hash"] is None
    assert "rot13" in found["error"]


def test_an_object_that_is_removed_once_it_is_hashed_keeps_its_digest(world, door):
    world.serve("hasher", hasher_delete_after=True)
    with with_switches(world.stack, hasher_delete_after=True):
        made = upload(door)
        comes_to(door, made["id"], "SUCCESS")
        until(lambda: links(door, made)["object"]["state"] == "removed", 30, "the removal")
    assert told(door, made["id"])["hash"] == MD5
    world.serve("hasher")


def test_an_object_that_was_removed_before_it_was_read_is_a_failure(world, door):
    world.stop("hasher")
    made = upload(door)
    world.s3.delete_object(Bucket="inbox", Key=made["key"])
    world.serve("hasher")
    assert "removed" in comes_to(door, made["id"], "FAILURE")["error"]


def test_the_id_of_another_token_is_none(world, door):
    mine, other = (
        door.post("/tokens", json={"name": f"{name}-{world.prefix[:-1]}", "scopes": ["read", "write"]}).json()
        for name in ("mine", "other")
    )
    with ingress.client(world, mine["token"]) as owner, ingress.client(world, other["token"]) as stranger:
        made = upload(owner)
        assert told(stranger, made["id"]) == INVALID
        assert comes_to(owner, made["id"], "SUCCESS")["hash"] == MD5
        assert told(stranger, made["id"]) == INVALID
        assert stranger.get(f"/links/{made['id']}").status_code == 404
        assert told(door, made["id"])["hash"] == MD5
    for one in (mine, other):
        door.delete(f"/tokens/{one['id']}")


def test_the_database_is_counted(world, door):
    comes_to(door, upload(door, bytes(5 << 20))["id"], "SUCCESS")
    found = door.get("/stats/database").json()
    (row,) = world.database.rows(
        "SELECT count(*) AS n, sum(size)::bigint AS bytes FROM api.digests WHERE bucket = 'inbox'"
    )
    inbox = [one for one in found["digests"]["by_bucket"] if one["bucket"] == "inbox"]
    assert (sum(one["versions"] for one in inbox), sum(one["bytes"] for one in inbox)) == (row["n"], row["bytes"])
    assert found["objects"]["known"] > 0
    assert ("digest", "succeeded") in {(one["queue"], one["state"]) for one in found["work"]}
    assert {"hasher.digests", "ingest.objects", "work.items"} <= {one["name"] for one in found["tables"]}


def test_who_sees_a_part_counts_that_part(world, door):
    name = f"part-{world.prefix[:-1]}"
    asked = {"name": name, "scopes": ["read"], "places": [f"inbox/{world.prefix}"]}
    part = door.post("/tokens", json=asked).json()
    world.put("one", b"12345")
    world.hashed("one")
    with ingress.client(world, part["token"]) as client:
        found = client.get("/stats/database").json()
        assert client.get("/stats/workers").status_code == 403
    assert found["digests"]["by_status"] == {"succeeded": 1}
    assert (found["digests"]["bytes"], found["objects"]["known"]) == (5, 1)
    door.delete(f"/tokens/{part['id']}")


def test_the_workers_are_told_with_their_partitions_lag_and_rate(world, door):
    def hasher():
        groups = {one["group"]: one for one in door.get("/stats/workers").json()["groups"]}
        return groups["hasher"]

    first = until(lambda: (one := hasher())["state"] == "stable" and one["lag"] == 0 and one, 60, "a hasher at rest")
    assert first["last_seen"] is not None
    assert {part for one in first["members"] for part in one["partitions"]} == {
        f"objects.changed.v1/{number}" for number in range(6)
    }
    assert all(one["client_id"].startswith("penstock-hasher") and one["host"] for one in first["members"])
    world.put_all([f"{number:03}" for number in range(50)])
    busy = until(lambda: (one := hasher())["topics"][0]["rate"] and one, 60, "a rate")
    assert busy["rate_over_seconds"] >= 1


def quickly(ask):
    started = time.monotonic()
    answer = ask()
    assert time.monotonic() - started < QUICK_SECONDS
    return answer


def test_with_postgres_stopped_uploads_work_and_questions_are_told_to_come_again(world, door):
    with world.without("postgres"):
        made = upload(door)
        for path in (f"/gethash/{made['id']}", f"/links/{made['id']}", "/stats/database", "/stats/workers"):
            answer = quickly(lambda path=path: door.get(path))
            assert (answer.status_code, "retry-after" in answer.headers) == (503, True), path
    until(lambda: door.get(f"/gethash/{made['id']}").status_code == 200, 60, "an answer")
    assert comes_to(door, made["id"], "SUCCESS", within=90)["hash"] == MD5


async def test_a_question_that_the_database_holds_up_does_not_hang(world, door):
    holder = await asyncpg.connect(world.stack.env["PENSTOCK_POSTGRES_DSN"])
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE hasher.digests IN ACCESS EXCLUSIVE MODE")
            answer = await asyncio.to_thread(quickly, lambda: door.get(f"/gethash/{'0' * 32}"))
    finally:
        await holder.close()
    assert (answer.status_code, "retry-after" in answer.headers) == (503, True)


def test_with_kafka_stopped_uploads_work_and_are_hashed_later(world, door):
    with world.without("kafka"):
        made = upload(door)
        assert told(door, made["id"])["status"] == "PENDING"
        workers = quickly(lambda: door.get("/stats/workers"))
        assert (workers.status_code, "retry-after" in workers.headers) == (503, True)
    assert comes_to(door, made["id"], "SUCCESS", within=90)["hash"] == MD5

"""Uploads in parts on real servers: addresses that the store honours, for one part and for a while."""

import hashlib
import json

import httpx
import pytest

from tests.support import ingress

pytestmark = pytest.mark.integration

PART = 16 << 20
BODY = bytes(range(256)) * (PART // 256) + b"the end"


@pytest.fixture
def root(system):
    ingress.serve(system)
    with ingress.client(system) as client:
        yield client


def begun(root, system, name="a b+ä.bin"):
    answer = root.post("/multipart", json={"key": system.prefix + name, "size": len(BODY), "content_type": "text/csv"})
    assert answer.status_code == 201, answer.text
    return answer.json()


def send(root, upload, number, body):
    urls = root.post(f"/multipart/{upload['id']}/sign", json={"numbers": [number]}).json()["urls"]
    return httpx.put(urls[str(number)], content=body, timeout=60)


def open_in_store(system, upload):
    found = system.s3.list_multipart_uploads(Bucket=upload["bucket"], Prefix=upload["key"])
    return [one["UploadId"] for one in found.get("Uploads", [])]


def test_parts_sent_to_the_store_become_an_object_that_is_hashed(system, root):
    upload = begun(root, system)
    assert send(root, upload, 2, BODY[PART:]).status_code == 200
    assert send(root, upload, 1, BODY[:PART]).status_code == 200
    assert [part["number"] for part in root.get(f"/multipart/{upload['id']}").json()["sent"]] == [1, 2]
    done = root.post(f"/multipart/{upload['id']}/complete")
    assert done.status_code == 200
    assert root.post(f"/multipart/{upload['id']}/complete").json() == done.json()
    row = system.hashed("a b+ä.bin")
    assert json.loads(row["digests"])["sha256"] == hashlib.sha256(BODY).hexdigest()
    assert system.s3.head_object(Bucket="inbox", Key=upload["key"])["ContentType"] == "text/csv"
    assert open_in_store(system, upload) == []


def test_a_part_of_another_length_is_refused_and_asked_for_again(system, root):
    upload = begun(root, system)
    assert send(root, upload, 1, BODY[:PART] + b"more").status_code == 403
    assert send(root, upload, 2, b"less").status_code == 403
    refused = root.post(f"/multipart/{upload['id']}/complete")
    assert (refused.status_code, refused.json()["missing"]) == (409, [1, 2])
    assert root.delete(f"/multipart/{upload['id']}").status_code == 204
    assert open_in_store(system, upload) == []
    assert send(root, upload, 1, BODY[:PART]).status_code == 404
    assert system.s3.list_objects_v2(Bucket="uploads", Prefix="parts/")["KeyCount"] == 0


def test_an_address_is_for_its_part_alone(system, root):
    upload = begun(root, system)
    urls = root.post(f"/multipart/{upload['id']}/sign", json={"numbers": [1, 2]}).json()["urls"]
    assert httpx.get(urls["1"]).status_code == 403
    assert httpx.put(urls["1"].replace("partNumber=1", "partNumber=2"), content=b"x").status_code == 403
    assert httpx.put(urls["1"].replace(".bin?", ".bin.other?"), content=b"x").status_code == 403
    names = ("PENSTOCK_S3_SECRET_KEY", "PENSTOCK_S3_SECRET_KEY_INGRESS", "PENSTOCK_S3_SECRET_KEY_PARTS")
    secrets = [system.stack.env[name] for name in names]
    assert not [secret for secret in secrets if secret in urls["1"] or secret in upload["id"]]
    assert root.delete(f"/multipart/{upload['id']}").status_code == 204


def test_an_upload_goes_on_after_the_ingress_was_killed(system, root):
    upload = begun(root, system, "killed.bin")
    assert send(root, upload, 1, BODY[:PART]).status_code == 200
    system.stack.kill("ingress")
    system.stack.start("ingress")
    assert [part["number"] for part in root.get(f"/multipart/{upload['id']}").json()["sent"]] == [1]
    assert send(root, upload, 2, BODY[PART:]).status_code == 200
    assert root.post(f"/multipart/{upload['id']}/complete").status_code == 200
    assert system.s3.get_object(Bucket="inbox", Key=upload["key"])["Body"].read() == BODY

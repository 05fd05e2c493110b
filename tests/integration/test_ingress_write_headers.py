"""Headers that change a write, on the real object store and with clients from outside."""

import base64
import hashlib
import json
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.storage.multipart import MIN_PART_BYTES
from tests.support import ingress
from tests.support.waiting import until

pytestmark = pytest.mark.integration

WHOLE = b"0123456789"
LARGE = bytes(range(256)) * (2 * MIN_PART_BYTES // 256) + b"end"


@pytest.fixture
def door(world):
    ingress.serve(world)
    with ingress.client(world) as client:
        yield client


def place(world, name):
    return f"/objects/inbox/{world.prefix}{name}"


def body_of(world, name):
    return world.s3.get_object(Bucket="inbox", Key=world.prefix + name)["Body"].read()


def curl(world, *arguments, path, body=b""):
    """Run curl and return the status of the last answer."""
    env = world.stack.env
    command = [
        "curl",
        "-sS",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "-H",
        f"Authorization: Bearer {env['PENSTOCK_TOKEN']}",
    ]
    done = subprocess.run(
        [*command, *arguments, env["PENSTOCK_HTTP_URL"] + path], input=body, capture_output=True, check=True, timeout=60
    )
    return int(done.stdout)


@pytest.mark.parametrize("size", [0, 10, len(LARGE)])
def test_curl_sends_what_it_reads_as_it_comes(world, door, size):
    assert curl(world, "-T", "-", path=place(world, "stdin"), body=LARGE[:size]) == 201
    assert body_of(world, "stdin") == LARGE[:size]
    assert door.get(place(world, "stdin")).content == LARGE[:size]


@pytest.mark.usefixtures("door")
def test_curl_that_resumes_an_upload_replaces_nothing(world, tmp_path):
    file = tmp_path / "whole.bin"
    file.write_bytes(WHOLE)
    assert curl(world, "-T", str(file), path=place(world, "p")) == 201
    assert curl(world, "-C", "6", "-T", str(file), path=place(world, "p")) == 400
    assert body_of(world, "p") == WHOLE


@pytest.mark.parametrize("body", [WHOLE, LARGE], ids=["small", "large"])
def test_the_store_itself_compares_before_it_replaces(world, door, body):
    """Many who all saw the same version: one of them replaces it."""
    etag = door.put(place(world, "one"), content=WHOLE).json()["etag"]

    def write(number):
        headers = {"if-match": f'"{etag}"'}
        return door.put(place(world, "one"), content=bytes([number]) + body, headers=headers).status_code

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(write, range(6))) == [201, *[412] * 5]

    def create(number):
        headers = {"if-none-match": "*"}
        return door.put(place(world, "new"), content=bytes([number]) + body, headers=headers).status_code

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(create, range(6))) == [201, *[412] * 5]


def test_a_condition_on_what_is_gone_is_412(world, door):
    for headers in ({"if-match": '"nope"'}, {"if-match": "*"}):
        assert door.put(place(world, "gone"), content=WHOLE, headers=headers).status_code == 412
        assert door.delete(place(world, "gone"), headers=headers).status_code == 412
    etag = door.put(place(world, "gone"), content=WHOLE, headers={"if-none-match": "*"}).json()["etag"]
    assert door.delete(place(world, "gone"), headers={"if-match": '"nope"'}).status_code == 412
    assert door.put(place(world, "gone"), content=LARGE, headers={"if-match": "*"}).status_code == 201
    assert door.delete(place(world, "gone"), headers={"if-match": f'"{etag}"'}).status_code == 412
    assert body_of(world, "gone") == LARGE


@pytest.mark.parametrize("body", [WHOLE, LARGE], ids=["small", "large"])
def test_verified_is_the_word_of_the_uploader(world, door, body):
    md5 = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    world.stack.start("hasher")
    door.put(place(world, "unsaid"), content=body)
    door.put(place(world, "said"), content=body, headers={"content-md5": md5})
    wrong = door.put(place(world, "wrong"), content=body, headers={"content-md5": "AAAAAAAAAAAAAAAAAAAAAA=="})
    assert (wrong.status_code, wrong.json()["expected"], wrong.json()["found"]) == (
        400,
        "AAAAAAAAAAAAAAAAAAAAAA==",
        md5,
    )
    assert world.hashed("said")["verification"] == "verified"
    assert world.hashed("unsaid")["verification"] is None
    assert world.digest("wrong") is None


def test_metadata_are_utf8_in_and_out(world, door):
    said = {"title": "Größe 日本 🐋", "encoded": "=?iso-8859-1?Q?Gr=F6=DFe?=", "empty": ""}
    kept = {"title": "Größe 日本 🐋", "encoded": "Größe", "empty": ""}
    headers = {f"x-amz-meta-{name}": text.encode() for name, text in said.items()}
    for name, body in (("small", WHOLE), ("large", LARGE)):
        assert door.put(place(world, name), content=body, headers=headers).status_code == 201
        got = {key.decode(): value.decode() for key, value in door.head(place(world, name)).headers.raw}
        assert {key: got[f"x-amz-meta-{key}"] for key in kept} == kept
        row = until(lambda name=name: world.told(name), 30, "the fact")
        assert json.loads(row["metadata"]) == kept
        facts = [json.loads(fact.value)["metadata"] for fact in world.facts("objects.changed.v1", name)]
        assert facts == [kept] * len(facts)
    world.sweep()
    assert len(world.facts("objects.changed.v1", "small")) == 1


def test_what_describes_an_object_is_kept_by_the_store(world, door):
    headers = {
        "content-type": "text/csv",
        "content-encoding": "gzip",
        "cache-control": "max-age=60",
        "content-language": "de",
        "content-disposition": 'attachment; filename="a.csv"',
        "expires": "Fri, 31 Dec 2100 23:59:59 GMT",
    }
    for name, body in (("small", WHOLE), ("large", LARGE)):
        assert door.put(place(world, name), content=body, headers=headers).status_code == 201
        got = door.head(place(world, name)).headers
        assert {key: got[key] for key in headers} == headers
        told = world.s3.head_object(Bucket="inbox", Key=world.prefix + name)
        assert (told["ContentEncoding"], told["CacheControl"], told["ContentLanguage"]) == ("gzip", "max-age=60", "de")

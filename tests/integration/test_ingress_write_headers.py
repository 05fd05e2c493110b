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
def client(system):
    ingress.serve(system)
    with ingress.client(system) as client:
        yield client


def object_path(system, name):
    return f"/objects/inbox/{system.prefix}{name}"


def body_of(system, name):
    return system.s3.get_object(Bucket="inbox", Key=system.prefix + name)["Body"].read()


def curl(system, *arguments, path, body=b""):
    """Run curl and return the status of the last answer."""
    env = system.stack.env
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
def test_curl_sends_what_it_reads_as_it_comes(system, client, size):
    assert curl(system, "-T", "-", path=object_path(system, "stdin"), body=LARGE[:size]) == 201
    assert body_of(system, "stdin") == LARGE[:size]
    assert client.get(object_path(system, "stdin")).content == LARGE[:size]


@pytest.mark.usefixtures("client")
def test_curl_that_resumes_an_upload_replaces_nothing(system, tmp_path):
    file = tmp_path / "whole.bin"
    file.write_bytes(WHOLE)
    assert curl(system, "-T", str(file), path=object_path(system, "p")) == 201
    assert curl(system, "-C", "6", "-T", str(file), path=object_path(system, "p")) == 400
    assert body_of(system, "p") == WHOLE


@pytest.mark.parametrize("body", [WHOLE, LARGE], ids=["small", "large"])
def test_the_store_itself_compares_before_it_replaces(system, client, body):
    """Many who all saw the same version: one of them replaces it."""
    etag = client.put(object_path(system, "one"), content=WHOLE).json()["etag"]

    def write(number):
        headers = {"if-match": f'"{etag}"'}
        return client.put(object_path(system, "one"), content=bytes([number]) + body, headers=headers).status_code

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(write, range(6))) == [201, *[412] * 5]

    def create(number):
        headers = {"if-none-match": "*"}
        return client.put(object_path(system, "new"), content=bytes([number]) + body, headers=headers).status_code

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(create, range(6))) == [201, *[412] * 5]


def test_a_condition_on_what_is_gone_is_412(system, client):
    for headers in ({"if-match": '"nope"'}, {"if-match": "*"}):
        assert client.put(object_path(system, "gone"), content=WHOLE, headers=headers).status_code == 412
        assert client.delete(object_path(system, "gone"), headers=headers).status_code == 412
    etag = client.put(object_path(system, "gone"), content=WHOLE, headers={"if-none-match": "*"}).json()["etag"]
    assert client.delete(object_path(system, "gone"), headers={"if-match": '"nope"'}).status_code == 412
    assert client.put(object_path(system, "gone"), content=LARGE, headers={"if-match": "*"}).status_code == 201
    assert client.delete(object_path(system, "gone"), headers={"if-match": f'"{etag}"'}).status_code == 412
    assert body_of(system, "gone") == LARGE


@pytest.mark.parametrize("body", [WHOLE, LARGE], ids=["small", "large"])
def test_verified_is_the_word_of_the_uploader(system, client, body):
    md5 = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    system.stack.start("hasher")
    client.put(object_path(system, "unsaid"), content=body)
    client.put(object_path(system, "said"), content=body, headers={"content-md5": md5})
    wrong = client.put(object_path(system, "wrong"), content=body, headers={"content-md5": "AAAAAAAAAAAAAAAAAAAAAA=="})
    assert (wrong.status_code, wrong.json()["expected"], wrong.json()["found"]) == (
        400,
        "AAAAAAAAAAAAAAAAAAAAAA==",
        md5,
    )
    assert system.hashed("said")["verification"] == "verified"
    assert system.hashed("unsaid")["verification"] is None
    assert system.digest("wrong") is None


def test_metadata_are_utf8_in_and_out(system, client):
    said = {"title": "Größe 日本 🐋", "encoded": "=?iso-8859-1?Q?Gr=F6=DFe?=", "empty": ""}
    metadata = {"title": "Größe 日本 🐋", "encoded": "Größe", "empty": ""}
    headers = {f"x-amz-meta-{name}": text.encode() for name, text in said.items()}
    for name, body in (("small", WHOLE), ("large", LARGE)):
        assert client.put(object_path(system, name), content=body, headers=headers).status_code == 201
        got = {key.decode(): value.decode() for key, value in client.head(object_path(system, name)).headers.raw}
        assert {key: got[f"x-amz-meta-{key}"] for key in metadata} == metadata
        row = until(lambda name=name: system.object_row(name), 30, "the fact")
        assert json.loads(row["metadata"]) == metadata
        facts = [json.loads(fact.value)["metadata"] for fact in system.facts("objects.changed.v1", name)]
        assert facts == [metadata] * len(facts)
    system.sweep()
    assert len(system.facts("objects.changed.v1", "small")) == 1


def test_what_describes_an_object_is_kept_by_the_store(system, client):
    headers = {
        "content-type": "text/csv",
        "content-encoding": "gzip",
        "cache-control": "max-age=60",
        "content-language": "de",
        "content-disposition": 'attachment; filename="a.csv"',
        "expires": "Fri, 31 Dec 2100 23:59:59 GMT",
    }
    for name, body in (("small", WHOLE), ("large", LARGE)):
        assert client.put(object_path(system, name), content=body, headers=headers).status_code == 201
        got = client.head(object_path(system, name)).headers
        assert {key: got[key] for key in headers} == headers
        head = system.s3.head_object(Bucket="inbox", Key=system.prefix + name)
        assert (head["ContentEncoding"], head["CacheControl"], head["ContentLanguage"]) == ("gzip", "max-age=60", "de")

"""Sets of files that replace a prefix, on real servers: whole or not at all, killed or not."""

import random
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support import ingress
from tests.support.waiting import until
from tests.support.wire import connect, head

pytestmark = pytest.mark.integration

OLD_KEYS = 1500


@pytest.fixture
def client(system):
    ingress.serve(system)
    with ingress.client(system) as client:
        yield client


def replace(system, client, files, prefix="p"):
    forms = [("files", (name, content)) for name, content in files.items()]
    data = {"keys_prefix": system.prefix + prefix}
    return client.post("/files/upload_minio", files=forms, data=data, headers={"bucket": "inbox"}, timeout=120)


def listed(system, prefix="", bucket="inbox"):
    """Return the etags of what is under a prefix."""
    pages = system.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return {one["Key"].removeprefix(prefix): one["ETag"] for page in pages for one in page.get("Contents", ())}


def contents(system, prefix):
    return {
        name: system.s3.get_object(Bucket="inbox", Key=prefix + name)["Body"].read() for name in listed(system, prefix)
    }


def test_a_set_replaces_more_than_a_page_of_old_objects_and_nothing_beside(system, client):
    system.put_all([f"p/{number:04}" for number in range(OLD_KEYS)] + ["pq/beside", "p2"])
    files = {"main.py": b"new", "sub/main.py": b"", "ü +%41/x.bin": random.Random(1).randbytes(12 << 20)}
    assert len(listed(system, f"{system.prefix}p/")) == OLD_KEYS
    assert replace(system, client, files).status_code == 204
    assert contents(system, f"{system.prefix}p/") == files
    assert set(listed(system, system.prefix)) == {f"p/{name}" for name in files} | {"pq/beside", "p2"}
    assert listed(system, "sets/", "uploads") == {}


def test_an_object_that_hides_others_goes_with_them(system, client):
    """MinIO's listings end at `p/a` when that is an object, so `p/a/b` comes to light only when `p/a` is gone."""
    for name in ("p/a/b", "p/a", "p/c"):
        system.put(name)
    assert set(listed(system, f"{system.prefix}p/")) == {"a", "c"}
    assert replace(system, client, {"x": b"new"}).status_code == 204
    assert contents(system, f"{system.prefix}p/") == {"x": b"new"}
    hidden = replace(system, client, {"x": b"new"}, prefix="p/x")
    assert (hidden.status_code, hidden.json()["code"]) == (422, "PREFIX_HIDDEN")


def test_a_new_object_where_a_folder_was(system, client):
    system.put("p/a/b")
    assert replace(system, client, {"a": b"new"}).status_code == 204
    assert contents(system, f"{system.prefix}p/") == {"a": b"new"}


def test_every_new_object_is_a_fact(system, client):
    assert replace(system, client, {"x": b"new"}).status_code == 204
    assert system.hashed("p/x")["size"] == 3


@pytest.mark.parametrize("seed", range(4))
def test_an_ingress_that_is_killed_leaves_the_old_set_or_the_new_one(system, client, seed):
    """Killed at any moment: before the manifest the old set stays, after it the next start brings the new one."""
    names = [f"{number:03}" for number in range(120)]
    old, new = ({name: f"{age} {name}".encode() for name in names[at:]} for age, at in (("old", 0), ("new", 40)))
    assert replace(system, client, old).status_code == 204

    def send():
        try:
            return replace(system, client, new).status_code
        except httpx.HTTPError:
            return None

    with ThreadPoolExecutor() as pool:
        sent = pool.submit(send)
        staged = random.Random(seed).randint(1, 80)
        until(lambda: sent.done() or len(listed(system, "sets/", "uploads")) >= staged, 30, "some files are staged")
        system.stack.kill("ingress")
        status = sent.result()
    system.stack.start("ingress")
    until(lambda: not manifests(system), 60, "what a manifest promised is done")
    left = contents(system, f"{system.prefix}p/")
    print(f"killed with {staged} staged: answered {status}, {'new' if left == new else 'old'} set")
    assert left in (old, new)
    if status == 204:
        assert left == new
    clear(system)


def test_the_store_stopped_in_the_middle_ends_with_one_of_the_sets(system, client):
    names = [f"{number:03}" for number in range(120)]
    old, new = ({name: f"{age} {name}".encode() for name in names[at:]} for age, at in (("old", 0), ("new", 40)))
    assert replace(system, client, old).status_code == 204
    with ThreadPoolExecutor() as pool:
        sent = pool.submit(replace, system, client, new)
        until(lambda: sent.done() or len(listed(system, "sets/", "uploads")) >= 40, 30, "some files are staged")
        system.stack.kill("minio")
        system.stack.start("minio")
        status = sent.result().status_code
    until(lambda: not manifests(system), 60, "what a manifest promised is done")
    left = contents(system, f"{system.prefix}p/")
    assert left in (old, new)
    assert status in {204, 503}
    clear(system)


def test_two_sets_at_once_never_mix(system, client):
    def send(number):
        return replace(system, client, {f"{n}-of-{number}": b"x" * 100 for n in range(20)}).status_code

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(send, range(12))) == {204}
    left = set(listed(system, f"{system.prefix}p/"))
    assert len(left) == 20
    assert len({name.partition("-of-")[2] for name in left}) == 1


def test_a_client_that_goes_away_changes_nothing(system, client):
    assert replace(system, client, {"x": b"old"}).status_code == 204
    kind = "multipart/form-data; boundary=b"
    with connect(system) as line:
        line.sendall(head(system, "POST", "/files/upload_minio", 99_999_999, Bucket="inbox", Content_Type=kind))
        line.sendall(b'--b\r\nContent-Disposition: form-data; name="files"; filename="y"\r\n\r\n' + bytes(12 << 20))
    until(lambda: listed(system, "sets/", "uploads") == {}, 20, "its files are removed")
    assert contents(system, f"{system.prefix}p/") == {"x": b"old"}


def manifests(system):
    return [key for key in listed(system, "sets/", "uploads") if key.endswith("manifest.json")]


def clear(system):
    """Remove what a killed process left staged; it does so itself an hour later."""
    for key in listed(system, "sets/", "uploads"):
        system.s3.delete_object(Bucket="uploads", Key=f"sets/{key}")


def test_a_set_of_more_than_a_thousand_files_replaces_another(system, client):
    names = [f"{number % 9}/{number}.txt" for number in range(2200)]
    system.put_all([f"p/{name}" for name in names[:1100]])
    new = {name: name.encode() for name in names[1000:]}
    began = time.monotonic()
    assert replace(system, client, new).status_code == 204
    print(f"{len(new)} files in place of 1,100: {time.monotonic() - began:.1f} s")
    assert contents(system, f"{system.prefix}p/") == new
    assert listed(system, "sets/", "uploads") == {}

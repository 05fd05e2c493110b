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
def door(world):
    ingress.serve(world)
    with ingress.client(world) as client:
        yield client


def replace(world, door, files, prefix="p"):
    forms = [("files", (name, content)) for name, content in files.items()]
    data = {"keys_prefix": world.prefix + prefix}
    return door.post("/files/upload_minio", files=forms, data=data, headers={"bucket": "inbox"}, timeout=120)


def listed(world, prefix="", bucket="inbox"):
    """Return the etags of what is under a prefix."""
    pages = world.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return {one["Key"].removeprefix(prefix): one["ETag"] for page in pages for one in page.get("Contents", ())}


def contents(world, prefix):
    return {
        name: world.s3.get_object(Bucket="inbox", Key=prefix + name)["Body"].read() for name in listed(world, prefix)
    }


def test_a_set_replaces_more_than_a_page_of_old_objects_and_nothing_beside(world, door):
    world.put_all([f"p/{number:04}" for number in range(OLD_KEYS)] + ["pq/beside", "p2"])
    files = {"main.py": b"new", "sub/main.py": b"", "ü +%41/x.bin": random.Random(1).randbytes(12 << 20)}
    assert len(listed(world, f"{world.prefix}p/")) == OLD_KEYS
    assert replace(world, door, files).status_code == 204
    assert contents(world, f"{world.prefix}p/") == files
    assert set(listed(world, world.prefix)) == {f"p/{name}" for name in files} | {"pq/beside", "p2"}
    assert listed(world, "sets/", "uploads") == {}


def test_an_object_that_hides_others_goes_with_them(world, door):
    """MinIO's listings end at `p/a` when that is an object, so `p/a/b` comes to light only when `p/a` is gone."""
    for name in ("p/a/b", "p/a", "p/c"):
        world.put(name)
    assert set(listed(world, f"{world.prefix}p/")) == {"a", "c"}
    assert replace(world, door, {"x": b"new"}).status_code == 204
    assert contents(world, f"{world.prefix}p/") == {"x": b"new"}
    hidden = replace(world, door, {"x": b"new"}, prefix="p/x")
    assert (hidden.status_code, hidden.json()["code"]) == (422, "PREFIX_HIDDEN")


def test_a_new_object_where_a_folder_was(world, door):
    world.put("p/a/b")
    assert replace(world, door, {"a": b"new"}).status_code == 204
    assert contents(world, f"{world.prefix}p/") == {"a": b"new"}


def test_every_new_object_is_a_fact(world, door):
    assert replace(world, door, {"x": b"new"}).status_code == 204
    assert world.hashed("p/x")["size"] == 3


@pytest.mark.parametrize("seed", range(4))
def test_an_ingress_that_is_killed_leaves_the_old_set_or_the_new_one(world, door, seed):
    """Killed at any moment: before the manifest the old set stays, after it the next start brings the new one."""
    names = [f"{number:03}" for number in range(120)]
    old, new = ({name: f"{age} {name}".encode() for name in names[at:]} for age, at in (("old", 0), ("new", 40)))
    assert replace(world, door, old).status_code == 204

    def send():
        try:
            return replace(world, door, new).status_code
        except httpx.HTTPError:
            return None

    with ThreadPoolExecutor() as pool:
        sent = pool.submit(send)
        staged = random.Random(seed).randint(1, 80)
        until(lambda: sent.done() or len(listed(world, "sets/", "uploads")) >= staged, 30, "some files are staged")
        world.stack.kill("ingress")
        status = sent.result()
    world.stack.start("ingress")
    until(lambda: not manifests(world), 60, "what a manifest promised is done")
    left = contents(world, f"{world.prefix}p/")
    print(f"killed with {staged} staged: answered {status}, {'new' if left == new else 'old'} set")
    assert left in (old, new)
    if status == 204:
        assert left == new
    clear(world)


def test_the_store_stopped_in_the_middle_ends_with_one_of_the_sets(world, door):
    names = [f"{number:03}" for number in range(120)]
    old, new = ({name: f"{age} {name}".encode() for name in names[at:]} for age, at in (("old", 0), ("new", 40)))
    assert replace(world, door, old).status_code == 204
    with ThreadPoolExecutor() as pool:
        sent = pool.submit(replace, world, door, new)
        until(lambda: sent.done() or len(listed(world, "sets/", "uploads")) >= 40, 30, "some files are staged")
        world.stack.kill("minio")
        world.stack.start("minio")
        status = sent.result().status_code
    until(lambda: not manifests(world), 60, "what a manifest promised is done")
    left = contents(world, f"{world.prefix}p/")
    assert left in (old, new)
    assert status in {204, 503}
    clear(world)


def test_two_sets_at_once_never_mix(world, door):
    def send(number):
        return replace(world, door, {f"{n}-of-{number}": b"x" * 100 for n in range(20)}).status_code

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(send, range(12))) == {204}
    left = set(listed(world, f"{world.prefix}p/"))
    assert len(left) == 20
    assert len({name.partition("-of-")[2] for name in left}) == 1


def test_a_client_that_goes_away_changes_nothing(world, door):
    assert replace(world, door, {"x": b"old"}).status_code == 204
    kind = "multipart/form-data; boundary=b"
    with connect(world) as line:
        line.sendall(head(world, "POST", "/files/upload_minio", 99_999_999, Bucket="inbox", Content_Type=kind))
        line.sendall(b'--b\r\nContent-Disposition: form-data; name="files"; filename="y"\r\n\r\n' + bytes(12 << 20))
    until(lambda: listed(world, "sets/", "uploads") == {}, 20, "its files are removed")
    assert contents(world, f"{world.prefix}p/") == {"x": b"old"}


def manifests(world):
    return [key for key in listed(world, "sets/", "uploads") if key.endswith("manifest.json")]


def clear(world):
    """Remove what a killed process left staged; it does so itself an hour later."""
    for key in listed(world, "sets/", "uploads"):
        world.s3.delete_object(Bucket="uploads", Key=f"sets/{key}")


def test_a_set_of_more_than_a_thousand_files_replaces_another(world, door):
    names = [f"{number % 9}/{number}.txt" for number in range(2200)]
    world.put_all([f"p/{name}" for name in names[:1100]])
    new = {name: name.encode() for name in names[1000:]}
    began = time.monotonic()
    assert replace(world, door, new).status_code == 204
    print(f"{len(new)} files in place of 1,100: {time.monotonic() - began:.1f} s")
    assert contents(world, f"{world.prefix}p/") == new
    assert listed(world, "sets/", "uploads") == {}

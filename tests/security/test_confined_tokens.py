"""An admin confined to a prefix, on real servers: what is elsewhere does not exist, in the same words and as soon."""

import base64
import contextlib
import http.client
import secrets
import time

import pytest

from tests.support import ingress
from tests.support.receiver import receiving
from tests.support.stream import following
from tests.support.waiting import until

pytestmark = pytest.mark.integration

FAST = {"webhook_allow_private": True, "webhook_wait_seconds": 0.1, "webhook_attempts": 2}
SETTINGS = {"ingress": FAST}
SPOKEN = {"tus-resumable": "1.0.0"}
ALL = ("read", "write", "run", "admin")
ENOUGH, ATTEMPTS = 10, 60


@pytest.fixture
def root(system):
    ingress.serve(system)
    with ingress.client(system) as client:
        yield client


def made(by, *scopes, **fields):
    answer = by.post("/tokens", json={"name": f"t-{secrets.token_hex(6)}", "scopes": scopes, **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


@pytest.fixture
def mine(system):
    return f"{system.prefix}ten-a/"


@pytest.fixture
def admin(system, root, mine):
    """Give the client of an admin who sees a part of one bucket."""
    token = made(root, *ALL, places=[f"inbox/{mine}"])
    with ingress.client(system, token["token"]) as client:
        yield client
    root.delete(f"/tokens/{token['id']}")


@pytest.fixture
def foreign(system, root):
    """Things of the first token, each with one of its kind that is nowhere."""
    system.put("ten-b/secret.txt", b"secret")
    token = made(root, "read")
    upload = root.post("/uploadfile/", files={"file": ("secret.txt", b"secret")}).json()["id"]
    key = f"key {base64.b64encode(f'{system.prefix}ten-b/slow'.encode()).decode()}"
    begun = root.post("/tus/", headers={**SPOKEN, "upload-length": "9", "upload-metadata": key})
    tus = begun.headers["location"].rpartition("/")[2]
    with receiving() as receiver:
        receiver.otherwise = 500
        request = {"url": receiver.url, "types": ["objects.changed.*"], "bucket": "inbox", "prefix": system.prefix}
        hook = root.post("/webhooks", json=request).json()["id"]
        system.put("ten-b/failed", b"secret")
        failures = f"/webhooks/{hook}/failures"
        until(lambda: root.get(failures).json(), 30, "a delivery fails")
        yield {
            "token": (token["id"], secrets.token_hex(8)),
            "hook": (hook, secrets.token_hex(8)),
            "upload": (upload, secrets.token_hex(16)),
            "tus": (tus, secrets.token_hex(16)),
            "key": (f"{system.prefix}ten-b/secret.txt", f"{system.prefix}ten-b/nowhere.tx"),
            "bucket": ("src-data", "no-such"),
        }
        until(lambda: root.delete(f"/webhooks/{hook}").status_code in {204, 404}, 30, "it is removed")
    root.delete(f"/tokens/{token['id']}")
    root.delete(f"/tus/{tus}", headers=SPOKEN)


WALK = [
    ("DELETE", "/tokens/{token}", 404),
    ("GET", "/webhooks/{hook}", 404),
    ("DELETE", "/webhooks/{hook}", 404),
    ("POST", "/webhooks/{hook}/test", 404),
    ("POST", "/webhooks/{hook}/retry", 404),
    ("GET", "/webhooks/{hook}/failures", 404),
    ("GET", "/gethash/{upload}", 200),
    ("GET", "/links/{upload}", 404),
    ("HEAD", "/tus/{tus}", 404),
    ("DELETE", "/tus/{tus}", 404),
    ("GET", "/objects/inbox/{key}", 404),
    ("HEAD", "/objects/inbox/{key}", 404),
    ("DELETE", "/objects/inbox/{key}", 404),
    ("PUT", "/objects/inbox/{key}", 404),
    ("GET", "/timeline/inbox/{key}", 404),
    ("GET", "/objects/{bucket}", 404),
    ("GET", "/objects/{bucket}/a", 404),
    ("DELETE", "/objects/{bucket}/a", 404),
    ("PUT", "/objects/{bucket}/a", 404),
]


def test_what_is_elsewhere_does_not_exist_in_the_same_words_and_as_soon(root, admin, foreign):
    took = {}
    for method, path, status in WALK:
        (name,) = (one for one in foreign if f"{{{one}}}" in path)
        times = ([], [])
        for _ in range(ATTEMPTS):
            if min(map(len, times)) >= ENOUGH and _are_like(times):
                break
            answers = []
            for which, thing in enumerate(foreign[name]):
                began = time.perf_counter()
                answer = admin.request(method, path.format(**{name: thing}), headers=SPOKEN, content=_body(method))
                times[which].append(time.perf_counter() - began)
                answers.append((answer.status_code, answer.text.replace(thing, "THING")))
            assert answers[0] == answers[1], (method, path)
            assert answers[0][0] == status, (method, path, answers)
        took[f"{method} {path}"] = times
    print({way: [round(min(one) * 1e3, 2) for one in times] for way, times in took.items()})
    assert all(_are_like(times) for times in took.values()), took
    assert root.get(f"/objects/inbox/{foreign['key'][0]}").text == "secret"
    assert root.get(f"/webhooks/{foreign['hook'][0]}").status_code == 200


def _are_like(times):
    """Tell whether the best of each are alike: they have no waiting in them."""
    slow, fast = max(map(min, times)), min(map(min, times))
    return slow < 1.5 * fast + 0.001


def _body(method):
    return b"x" if method == "PUT" else None


def test_confined_admin_lists_and_makes_its_own_alone(system, root, admin, foreign, mine):
    me = admin.get("/whoami").json()["id"]
    child = made(admin, "admin", places=[f"inbox/{mine}"])
    assert {one["id"] for one in admin.get("/tokens").json()} == {me, child["id"]}
    assert admin.get("/webhooks").json() == []
    own = admin.post("/webhooks", json={"url": "http://127.0.0.1:9099/"}).json()["id"]
    assert [one["id"] for one in admin.get("/webhooks").json()] == [own]
    with ingress.client(system, child["token"]) as client:
        assert client.get("/webhooks").json() == []
        assert client.delete(f"/webhooks/{own}").status_code == 404
        assert client.delete(f"/tokens/{me}").status_code == 404
    for wider in ({}, {"places": ["inbox/"]}, {"places": [f"inbox/{mine}", "src-data/"]}):
        refused = admin.post("/tokens", json={"name": secrets.token_hex(4), "scopes": ["read"], **wider})
        assert (refused.status_code, refused.json()["code"]) == (403, "WRONG_PLACE")
    assert {foreign["token"][0], me, child["id"]} <= {one["id"] for one in root.get("/tokens").json()}
    assert admin.delete(f"/webhooks/{own}").status_code == 204


def test_webhook_and_stream_of_a_confined_admin_tell_nothing_of_what_is_elsewhere(system, root, admin, mine):
    token = admin.headers["authorization"].partition(" ")[2]
    with receiving() as receiver, following(ingress.client(system, token), bucket="inbox") as stream:
        number = admin.post("/webhooks", json={"url": receiver.url, "types": ["*"]}).json()["id"]
        until(lambda: stream.lines, 10, "it is open")
        system.put("ten-b/secret")
        system.put("ten-ab/secret")
        system.put("src", bucket="src-data")
        system.put("ten-a/own")
        until(lambda: receiver.taken(mine), 30, lambda: receiver.deliveries)
        until(lambda: stream.keys(mine), 30, lambda: stream.events)
        assert {fact["key"] for fact in receiver.taken()} == {f"{mine}own"}
        assert {one["key"] for one in stream.events} == {f"{mine}own"}
        until(lambda: admin.delete(f"/webhooks/{number}").status_code == 204, 30, "it is removed")
        root.delete(f"/tokens/{admin.get('/whoami').json()['id']}")
        until(lambda: stream.is_over, 5, "it ends")


def test_listing_of_a_confined_token_cannot_be_led_out_of_its_prefix(system, admin, mine):
    for name in ("ten-a/own", "ten-b/secret", "ten-ab/secret"):
        system.put(name)
    ways = [
        "",
        mine,
        system.prefix,
        f"{system.prefix}ten-",
        f"{mine}../",
        f"{mine}../ten-b/",
        f"{mine}./",
        "/",
        f"/{mine}",
    ]
    for prefix in ways:
        for delimiter in ("", "/", "-"):
            answer = admin.get("/objects/inbox", params={"prefix": prefix, "delimiter": delimiter})
            assert "secret" not in answer.text
            assert "ten-b" not in answer.text.replace(prefix, "")
    for path in (f"{mine}../ten-b/secret", f"{mine}%2e%2e/ten-b/secret", f"{mine}..%2Ften-b%2Fsecret"):
        assert _plain_get(admin, f"/objects/inbox/{path}") in {404, 422}
    assert _plain_get(admin, f"/objects/inbox/{mine}own") == 200


def _plain_get(client, path):
    """Ask by a client that sends a path as it is; others tidy it."""
    connection = http.client.HTTPConnection(client.base_url.host, client.base_url.port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"authorization": client.headers["authorization"]})
        return connection.getresponse().status


def test_system_is_not_told_to_a_confined_token(admin):
    assert admin.get("/stats/workers").status_code == 403
    counts = admin.get("/stats/database").json()
    assert (counts["tables"], counts["last_sweep"]) == ([], None)
    assert {one["bucket"] for one in counts["objects"]["by_bucket"]} <= {"inbox"}
    assert admin.get("/data/loads").json() == []
    with contextlib.suppress(KeyError):
        assert admin.get("/data").json()["code"] == "DATASET_UNKNOWN"

"""Webhooks on real servers: delivered at least once, in order, signed; retried, and disabled at last."""

import httpx
import pytest

from services.ingress.core.webhook_signing import derive_secret
from tests.support.ingress import client, serve
from tests.support.receiver import receiving
from tests.support.waiting import until

pytestmark = pytest.mark.integration

FAST = {"webhook_allow_private": True, "webhook_wait_seconds": 0.1, "webhook_attempts": 3}
SETTINGS = {"ingress": FAST}


@pytest.fixture
def through(system):
    serve(system)
    with client(system) as through:
        yield through


@pytest.fixture
def receiver():
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def hook(system, through, receiver):
    request = {"url": receiver.url, "types": ["objects.changed.*"], "bucket": "inbox", "prefix": system.prefix}
    answer = through.post("/webhooks", json=request)
    assert answer.status_code == 201, answer.text
    yield answer.json()
    until(lambda: through.delete(f"/webhooks/{answer.json()['id']}").status_code in {204, 404}, 30, "it is removed")


def keys(system, receiver):
    return [fact["key"].removeprefix(system.prefix) for fact in receiver.taken(system.prefix)]


def state(through, hook):
    return through.get(f"/webhooks/{hook['id']}").json()


def drop(system, *names):
    for name in names:
        system.put(name, name.encode())
        until(lambda name=name: system.object_row(name), 30, name)


def test_facts_are_delivered_in_order_signed_and_once(system, hook, receiver):
    names = [f"{number:02}" for number in range(20)]
    drop(system, *names)
    system.put("elsewhere", b"1", bucket="src-data")
    until(lambda: len(keys(system, receiver)) >= 20, 30, lambda: keys(system, receiver))
    assert sorted(keys(system, receiver)) == names
    seqs = [one.fact["seq"] for one in receiver.deliveries]
    assert seqs == sorted(set(seqs))
    assert all(one.is_signed_with(hook["secret"]) for one in receiver.deliveries)
    assert not any(one.is_signed_with(derive_secret(bytes(32), hook["id"])) for one in receiver.deliveries)
    assert all(one.has_former_signature_of(hook["secret"]) for one in receiver.deliveries)
    ids = [one.headers["webhook-id"] for one in receiver.deliveries]
    assert len(set(ids)) == len(ids)
    first = receiver.deliveries[0]
    assert first.headers["penstock-event-id"] == first.fact["event_id"]
    assert first.headers["penstock-event-type"] == first.fact["type"] == "objects.changed.v1"


def test_webhook_secret_is_returned_once_and_stored_nowhere_in_clear(system, through, hook, receiver):
    drop(system, "a")
    until(lambda: keys(system, receiver), 30, "a delivery")
    assert "secret" not in state(through, hook)
    assert system.database.holding([hook["secret"]]) == []
    log = (system.stack.state_dir / "logs" / "ingress.log").read_text()
    assert hook["secret"] not in log
    assert receiver.url not in log


@pytest.mark.parametrize("answers", [[500, 503], [302, 404]])
def test_a_failed_delivery_is_tried_again_before_the_next_one(system, hook, receiver, answers):  # noqa: ARG001
    receiver.answers = list(answers)
    drop(system, "a", "b")
    until(lambda: len(keys(system, receiver)) >= 2, 30, lambda: keys(system, receiver))
    tried = [one.fact["key"].removeprefix(system.prefix) for one in receiver.deliveries]
    assert tried == ["a", "a", "a", "b"]
    first, *again, other = [one.headers["webhook-id"] for one in receiver.deliveries]
    assert set(again) == {first} != {other}


def test_undelivered_webhook_fact_is_set_aside_and_can_be_retried(system, through, hook, receiver):
    receiver.answers = [500, 500, 500]
    drop(system, "a", "b")
    until(lambda: keys(system, receiver) == ["b"], 30, lambda: keys(system, receiver))
    (failure,) = through.get(f"/webhooks/{hook['id']}/failures").json()
    assert (failure["fact"]["key"], failure["attempts"]) == (system.prefix + "a", 3)
    assert failure["error"] == "it answered 500"
    receiver.answers = [500]
    assert through.post(f"/webhooks/{hook['id']}/retry").json() == {"facts": 1}
    waiting = lambda: through.get(f"/webhooks/{hook['id']}/failures").json()  # noqa: E731
    until(lambda: [one["attempts"] for one in waiting()] == [4], 30, waiting)
    assert through.post(f"/webhooks/{hook['id']}/retry").json() == {"facts": 1}
    until(lambda: waiting() == [], 30, waiting)
    assert keys(system, receiver) == ["b", "a"]


def test_busy_receiver_is_retried_after_its_retry_after_without_failure(system, through, hook, receiver):
    receiver.answers, receiver.retry_after = [429, 503, 429, 503], "1"
    drop(system, "a", "b")
    until(lambda: keys(system, receiver) == ["a", "b"], 60, lambda: [one.status for one in receiver.deliveries])
    assert [one.status for one in receiver.deliveries] == [429, 503, 429, 503, 204, 204]
    assert through.get(f"/webhooks/{hook['id']}/failures").json() == []
    until(lambda: state(through, hook)["last_error"] is None, 30, lambda: state(through, hook))
    assert state(through, hook)["failures"] == 0


def test_gone_receiver_is_paused_until_retried(system, through, hook, receiver):
    receiver.answers = [410]
    drop(system, "a")
    until(lambda: not state(through, hook)["enabled"], 30, lambda: state(through, hook))
    drop(system, "b")
    through.post(f"/webhooks/{hook['id']}/retry")
    until(lambda: keys(system, receiver) == ["a", "b"], 30, lambda: keys(system, receiver))
    assert len(receiver.deliveries) == 3


def test_a_killed_ingress_loses_no_delivery(system, through, hook, receiver):
    names = [f"{number:03}" for number in range(150)]
    with system.uploading(names):
        until(lambda: len(keys(system, receiver)) >= 10, 60, lambda: len(keys(system, receiver)))
        system.stack.kill("ingress")
        system.stack.start("ingress")
    until(lambda: set(keys(system, receiver)) >= set(names), 90, lambda: len(set(keys(system, receiver))))
    again = len(keys(system, receiver)) - len(names)
    print(f"{again} delivered twice")
    assert again <= 1
    assert state(through, hook)["failures"] == 0


def test_of_two_processes_one_delivers(system, through, hook, receiver):  # noqa: ARG001
    from deploy.native import ports  # noqa: PLC0415

    port = ports.pick(1)[0]
    second = system.serve("ingress", 2, **FAST, http_port=port, http_url=f"http://127.0.0.1:{port}")
    try:
        names = [f"{number:03}" for number in range(60)]
        system.put_all(names)
        until(lambda: len(keys(system, receiver)) >= 60, 60, lambda: len(keys(system, receiver)))
        assert sorted(keys(system, receiver)) == names
        seqs = [fact["seq"] for fact in receiver.taken(system.prefix)]
        assert seqs == sorted(seqs)
    finally:
        system.stack.stop(second)


def test_a_webhook_is_tried_under_the_name_it_was_given(through, hook, receiver):
    answer = through.post(f"/webhooks/{hook['id']}/test").json()
    assert (answer["taken"], answer["status"], answer["error"]) == (True, 204, None)
    named = httpx.URL(receiver.url).copy_with(host="localhost")
    other = through.post("/webhooks", json={"url": str(named)}).json()
    assert through.post(f"/webhooks/{other['id']}/test").json()["taken"]
    assert receiver.deliveries[-1].headers["host"] == f"localhost:{named.port}"
    assert receiver.deliveries[-1].is_signed_with(other["secret"])
    assert through.delete(f"/webhooks/{other['id']}").status_code == 204
    assert through.post(f"/webhooks/{other['id']}/test").status_code == 404


def test_no_webhook_leads_into_this_machine(system, receiver):
    serve(system, webhook_allow_private=False)
    with client(system) as through:
        port = httpx.URL(receiver.url).port
        for host in ("127.0.0.1", "localhost", "[::1]", "0.0.0.0", "2130706433", "0177.0.0.1", "[::ffff:127.0.0.1]"):  # noqa: S104
            answer = through.post("/webhooks", json={"url": f"http://{host}:{port}/"})
            assert (answer.status_code, answer.json()["code"]) == (422, "TARGET_NOT_ALLOWED"), host
        assert through.post("/webhooks", json={"url": "http://no-such.invalid/"}).json()["code"] == "TARGET_UNKNOWN"
        assert receiver.deliveries == []


def test_an_address_that_became_private_is_not_delivered_to(system, through, hook, receiver):  # noqa: ARG001
    serve(system, **{**FAST, "webhook_allow_private": False})
    with client(system) as anew:
        answer = anew.post(f"/webhooks/{hook['id']}/test").json()
        assert not answer["taken"]
        assert "public address" in answer["error"]
    assert receiver.deliveries == []

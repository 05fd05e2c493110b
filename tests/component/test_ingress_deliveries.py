"""Deliveries: each allowed address of a name is tried within the deadline, and every attempt is signed."""

import asyncio
import socket
import time

import pytest

from services.ingress.adapters import deliveries
from services.ingress.adapters.deliveries import Sender
from services.ingress.core.webhook_signing import former_spelling
from services.ingress.settings import IngressSettings
from tests.support.receiver import receiving

FACT = {"seq": 1, "event_id": "e", "type": "t", "at": "x", "topic": "t"}
SETTINGS = IngressSettings(secret_key="Owp7ToPzGVXCllnBvYiMnN9Wu85qdRuUAelxwnrIAAA=", webhook_allow_private=True)
FAMILIES = {True: socket.AF_INET6, False: socket.AF_INET}


@pytest.fixture
def names(monkeypatch):
    """Let every name have these addresses."""

    def stands_for(*addresses):
        async def getaddrinfo(_host, port, **_):
            return [(FAMILIES[":" in one], socket.SOCK_STREAM, 6, "", (one, port)) for one in addresses]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)

    return stands_for


async def send(receiver, times=1, settings=SETTINGS, webhook_id="wh_1"):
    sender, url = Sender(settings), f"http://hooks.example:{port_of(receiver)}/x"
    async with sender.client() as client:
        outcomes = [await sender.send(client, webhook_id, url, FACT) for _ in range(times)]
    return outcomes[-1]


@pytest.mark.parametrize(
    "addresses",
    [["::1", "127.0.0.1"], ["127.0.0.9", "127.0.0.1"], ["::1", "127.0.0.8", "127.0.0.9", "127.0.0.1"]],
    ids=["AAAA and A", "two A", "the last of four"],
)
async def test_delivery_goes_to_the_first_reachable_address(names, addresses):
    names(*addresses)
    with receiving() as receiver:
        outcome = await send(receiver, times=2)
        assert (outcome.status, outcome.error) == (204, None)
        assert [one.headers["host"].partition(":")[0] for one in receiver.deliveries] == ["hooks.example"] * 2


async def test_unresponsive_address_leaves_time_for_the_next(names, monkeypatch):
    monkeypatch.setattr(deliveries, "SECONDS", 3.0)
    names("127.0.0.7", "127.0.0.1")
    with receiving() as receiver, socket.create_server(("127.0.0.7", port_of(receiver)), backlog=0) as deaf:
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.settimeout(0)
            one.connect_ex(deaf.getsockname())
        outcome = await send(receiver)
        for one in waiting:
            one.close()
    assert (outcome.status, outcome.error) == (204, None)
    assert outcome.seconds < 3


def port_of(receiver):
    return int(receiver.url.rpartition(":")[2].partition("/")[0])


async def test_unreachable_addresses_give_an_explained_error(names):
    names("127.0.0.8", "127.0.0.9")
    with receiving() as receiver:
        outcome = await send(receiver)
        assert "none of the 2 addresses of hooks.example can be reached" in outcome.error
        assert receiver.deliveries == []


@pytest.mark.parametrize("private", ["10.0.0.1", "::1", "169.254.169.254", "::ffff:127.0.0.1"])
async def test_each_address_is_checked(names, private):
    for addresses in (("8.8.8.8", private), (private, "8.8.8.8")):
        names(*addresses)
        with receiving() as receiver:
            outcome = await send(receiver, settings=SETTINGS.model_copy(update={"webhook_allow_private": False}))
        assert "public address" in outcome.error


async def test_sent_delivery_is_not_repeated_to_another_address(names):
    names("127.0.0.1", "127.0.0.2")
    with receiving() as receiver:
        receiver.answers = [500]
        outcome = await send(receiver)
        assert (outcome.status, len(receiver.deliveries)) == (500, 1)


async def test_busy_receiver_sets_retry_after(names):
    names("127.0.0.1")
    with receiving() as receiver:
        receiver.answers, receiver.retry_after = [429], "17"
        outcome = await send(receiver)
    assert (outcome.status, outcome.retry_after) == (429, 17)


async def test_repeated_delivery_is_signed_anew_with_the_same_id(names, monkeypatch):
    names("127.0.0.1")
    later = time.time() + 60
    with receiving() as receiver:
        receiver.answers = [500]
        await send(receiver)
        monkeypatch.setattr(time, "time", lambda: later)
        await send(receiver)
    first, second = receiver.deliveries
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert int(first.headers["webhook-timestamp"]) < int(second.headers["webhook-timestamp"]) == int(later)
    assert all(one.is_signed_with(Sender(SETTINGS).secret("wh_1")) for one in receiver.deliveries)
    assert not any(one.is_signed_with(Sender(SETTINGS).secret("wh_2")) for one in receiver.deliveries)


async def test_webhooks_of_both_versions_are_signed_in_both_ways(names):
    names("127.0.0.1")
    secret = Sender(SETTINGS).secret
    with receiving() as receiver:
        await send(receiver, webhook_id="wh_1")
        await send(receiver, webhook_id="0123456789abcdef")
    new, former = receiver.deliveries
    assert new.is_signed_with(secret("wh_1"))
    assert new.has_former_signature_of(secret("wh_1"))
    assert former.is_signed_with(secret("0123456789abcdef"))
    assert former.has_former_signature_of(former_spelling(secret("0123456789abcdef")))

"""Outages are waited out, the unknown is tried a few times, the rejected never again."""

import pytest

from shared.errors import Outage, Rejected
from shared.middleware.retry import RecordRetries, Retry


def failing(*errors):
    left = list(errors)

    async def call(msg):
        if left:
            raise left.pop(0)
        return f"done {msg}"

    call.left = left
    return call


def retry(**policy):
    return Retry(None, policy=RecordRetries(**policy), context=None)


async def test_an_outage_is_waited_out(monkeypatch):
    monkeypatch.setattr("asyncio.sleep", no_sleep)
    assert await retry().consume_scope(failing(Outage("away"), ConnectionResetError()), "msg") == "done msg"


async def test_patience_ends_and_the_records_go_back():
    with pytest.raises(Outage):
        await retry(outage_seconds=0.001).consume_scope(failing(*[Outage("away")] * 99), "msg")


@pytest.mark.parametrize("error", [Rejected("WRONG", "wrong"), ValueError("odd")])
async def test_what_is_no_outage_goes_outward_at_once(error):
    call = failing(error, error)
    with pytest.raises(type(error)):
        await retry().consume_scope(call, "msg")
    assert len(call.left) == 1


async def test_the_unknown_is_tried_as_often_as_the_policy_says(monkeypatch):
    monkeypatch.setattr("asyncio.sleep", no_sleep)
    call = failing(*[ValueError("odd")] * 2)
    async for attempt in RecordRetries(max_unknown_attempts=3).retry_unknown():
        with attempt:
            done = await call("msg")
    assert done == "done msg"


async def no_sleep(_seconds):
    pass

"""Dead letters keep body and key, have the error in headers, and can be sent for any headers of the record."""

import math
from types import SimpleNamespace

import pytest
import stamina
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Outage, Rejected
from shared.middleware.dead_letter import (
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    DeadLetter,
    DeadLetters,
    attempts_of,
    dead_letter_headers,
)
from shared.middleware.records import records_of
from shared.middleware.retry import RecordRetries
from shared.testing.bus import record

WRONG = Rejected("WRONG", "no such column")


class Broker:
    def __init__(self):
        self.sent = []

    async def publish(self, message, topic, *, key=None, headers=None):
        self.sent.append((topic, key, message, headers))


def headers_of(*headers, error=WRONG):
    return dead_letter_headers(record("t", b"body", headers=headers), "svc", error)


def test_dead_letter_headers_have_position_and_error():
    said = headers_of()
    assert {name: said[name] for name in said if name not in ("dlq_at", "dlq_offset")} == {
        "dlq_topic": "t",
        "dlq_partition": "0",
        "dlq_service": "svc",
        "dlq_kind": "rejected",
        "dlq_code": "WRONG",
        "dlq_reason": "no such column",
        "dlq_attempts": "1",
    }


def test_unregistered_error_gives_its_type_as_code_and_its_text_as_reason():
    said = headers_of(error=KeyError("column"))
    assert (said["dlq_kind"], said["dlq_code"], said["dlq_reason"]) == ("unknown", "KeyError", "KeyError: 'column'")


def test_dead_letter_keeps_record_headers_but_drops_forged_dlq_headers():
    said = headers_of(("ce_id", b"1"), ("dlq_reason", b"forged"), ("dlq_extra", b"x"))
    assert (said["ce_id"], said["dlq_reason"], "dlq_extra" in said) == ("1", "no such column", False)


@pytest.mark.parametrize(
    ("value", "attempts"),
    [(b"2", 2), (None, 0), (b"", 0), (b"-1", 0), (b"x", 0), (b"\xb2", 0), (b"9" * 5000, 0), (b"1e9", 0)],
    ids=lambda value: ascii(value)[:12],
)
def test_attempts_are_read_from_header_and_invalid_values_count_as_zero(value, attempts):
    assert attempts_of(record("t", b"", headers=[("dlq_attempts", value)])) == attempts


hostile = st.lists(st.tuples(st.text(), st.none() | st.binary(max_size=3 * MAX_HEADER_BYTES)), max_size=3 * MAX_HEADERS)


@given(hostile, st.text(alphabet=st.characters(exclude_categories=()), max_size=1000))
def test_dead_letter_headers_stay_bounded_and_encodable_for_any_input(headers, text):
    said = dead_letter_headers(record("t", b"", headers=headers), "svc", ValueError(text))
    size = sum(len(name.encode("utf-8", "surrogatepass")) + len(value.encode()) for name, value in said.items())
    assert size < MAX_HEADERS * MAX_HEADER_BYTES * 4 + 100_000
    assert len(said) <= MAX_HEADERS + 9


async def test_dead_letter_keeps_body_and_key_unchanged():
    broker = Broker()
    await DeadLetters(broker, "svc").dead_letter(record("t", b"\x00\xff", key=b"\xfe"), WRONG)
    ((topic, key, body, _),) = broker.sent
    assert (topic, key, body) == ("t.svc.dlq", b"\xfe", b"\x00\xff")


async def test_failed_publish_of_dead_letter_raises_outage():
    class Full(Broker):
        async def publish(self, *_args, **_more):
            raise ValueError("too large")

    with pytest.raises(Outage, match=r"t\.svc\.dlq"):
        await DeadLetters(Full(), "svc").dead_letter(record("t", b""), WRONG)


class Batch:
    """The chain around a handler that fails on some records; counts its calls and the waits between them."""

    def __init__(self, monkeypatch, *, bad=(), error=WRONG):
        self.broker, self.calls, self.done, self.waits = Broker(), 0, [], []
        self.bad, self.error = bad, error

        async def wait(seconds):
            self.waits.append(seconds)

        monkeypatch.setattr("asyncio.sleep", wait)

    async def run(self, count):
        records = tuple(record("t", b"%d" % nth) for nth in range(count))
        dead_letters = DeadLetters(self.broker, "svc")
        chain = DeadLetter(None, dead_letters=dead_letters, policy=RecordRetries(), context=None)
        await chain.consume_scope(self._handle, SimpleNamespace(raw_message=records))

    async def _handle(self, msg):
        self.calls += 1
        values = [int(one.value) for one in records_of(msg)]
        if any(one in self.bad for one in values):
            raise self.error
        self.done += values

    @property
    def dead_lettered(self):
        return [int(body) for _, _, body, _ in self.broker.sent]


@pytest.mark.parametrize("bad", [{0}, {99}, {3, 4}, set(range(0, 100, 7)), set(range(100))])
async def test_batch_is_halved_until_only_bad_records_are_dead_lettered(monkeypatch, bad):
    batch = Batch(monkeypatch, bad=bad)
    await batch.run(100)
    assert batch.dead_lettered == sorted(bad)
    assert sorted(set(batch.done)) == sorted(set(range(100)) - bad)


async def test_one_bad_record_costs_few_handler_calls(monkeypatch):
    batch = Batch(monkeypatch, bad={250})
    await batch.run(500)
    assert batch.calls <= 2 * math.ceil(math.log2(500)) + 1


async def test_batch_of_only_bad_records_waits_no_longer_than_one_record(monkeypatch):
    batch = Batch(monkeypatch, bad=set(range(500)), error=ValueError("odd"))
    await batch.run(500)
    assert len(batch.dead_lettered) == 500
    assert len(batch.waits) == 2


async def test_transient_unknown_error_causes_no_dead_letter(monkeypatch):
    batch = Batch(monkeypatch, bad={1}, error=ValueError("odd"))
    handle = batch._handle

    async def recovers(msg):
        batch.bad = {1} if batch.calls == 0 else ()
        await handle(msg)

    batch._handle = recovers
    await batch.run(3)
    assert (batch.dead_lettered, batch.calls) == ([], 2)


async def test_outage_is_raised_without_a_dead_letter(monkeypatch):
    batch = Batch(monkeypatch, bad={1}, error=Outage("away"))
    with pytest.raises(Outage):
        await batch.run(3)
    assert (batch.dead_lettered, batch.calls) == ([], 1)


@pytest.fixture(autouse=True)
def quiet():
    stamina.instrumentation.set_on_retry_hooks([])
    yield
    stamina.instrumentation.set_on_retry_hooks(None)

"""Dead letters: body and key untouched, why in headers; whatever the headers hold, the letter can be sent."""

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


def letter(*headers, error=WRONG):
    return dead_letter_headers(record("t", b"body", headers=headers), "svc", error)


def test_a_letter_says_where_it_stood_and_why():
    said = letter()
    assert {name: said[name] for name in said if name not in ("dlq_at", "dlq_offset")} == {
        "dlq_topic": "t",
        "dlq_partition": "0",
        "dlq_service": "svc",
        "dlq_kind": "rejected",
        "dlq_code": "WRONG",
        "dlq_reason": "no such column",
        "dlq_attempts": "1",
    }


def test_an_error_nobody_named_gives_its_type_and_last_line():
    said = letter(error=KeyError("column"))
    assert (said["dlq_kind"], said["dlq_code"], said["dlq_reason"]) == ("unknown", "KeyError", "KeyError: 'column'")


def test_the_records_own_headers_travel_along_but_cannot_pose_as_ours():
    said = letter(("ce_id", b"1"), ("dlq_reason", b"forged"), ("dlq_extra", b"x"))
    assert (said["ce_id"], said["dlq_reason"], "dlq_extra" in said) == ("1", "no such column", False)


@pytest.mark.parametrize(
    ("value", "attempts"),
    [(b"2", 2), (None, 0), (b"", 0), (b"-1", 0), (b"x", 0), (b"\xb2", 0), (b"9" * 5000, 0), (b"1e9", 0)],
    ids=lambda value: ascii(value)[:12],
)
def test_attempts_are_counted_and_nonsense_counts_nothing(value, attempts):
    assert attempts_of(record("t", b"", headers=[("dlq_attempts", value)])) == attempts


hostile = st.lists(st.tuples(st.text(), st.none() | st.binary(max_size=3 * MAX_HEADER_BYTES)), max_size=3 * MAX_HEADERS)


@given(hostile, st.text(alphabet=st.characters(exclude_categories=()), max_size=1000))
def test_no_header_and_no_error_makes_a_letter_unsendable(headers, text):
    said = dead_letter_headers(record("t", b"", headers=headers), "svc", ValueError(text))
    size = sum(len(name.encode("utf-8", "surrogatepass")) + len(value.encode()) for name, value in said.items())
    assert size < MAX_HEADERS * MAX_HEADER_BYTES * 4 + 100_000
    assert len(said) <= MAX_HEADERS + 9


async def test_body_and_key_are_untouched():
    broker = Broker()
    await DeadLetters(broker, "svc").dead_letter(record("t", b"\x00\xff", key=b"\xfe"), WRONG)
    ((topic, key, body, _),) = broker.sent
    assert (topic, key, body) == ("t.svc.dlq", b"\xfe", b"\x00\xff")


async def test_a_topic_that_takes_no_letter_is_an_outage_so_nothing_is_lost():
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
        letters = DeadLetters(self.broker, "svc")
        chain = DeadLetter(None, letters=letters, policy=RecordRetries(), context=None)
        await chain.consume_scope(self._handle, SimpleNamespace(raw_message=records))

    async def _handle(self, msg):
        self.calls += 1
        values = [int(one.value) for one in records_of(msg)]
        if any(one in self.bad for one in values):
            raise self.error
        self.done += values

    @property
    def buried(self):
        return [int(body) for _, _, body, _ in self.broker.sent]


@pytest.mark.parametrize("bad", [{0}, {99}, {3, 4}, set(range(0, 100, 7)), set(range(100))])
async def test_a_batch_is_halved_until_the_culprits_stand_alone(monkeypatch, bad):
    batch = Batch(monkeypatch, bad=bad)
    await batch.run(100)
    assert batch.buried == sorted(bad)
    assert sorted(set(batch.done)) == sorted(set(range(100)) - bad)


async def test_one_culprit_costs_little(monkeypatch):
    batch = Batch(monkeypatch, bad={250})
    await batch.run(500)
    assert batch.calls <= 2 * math.ceil(math.log2(500)) + 1


async def test_a_batch_of_nothing_but_unknown_failures_waits_no_longer_than_one_record(monkeypatch):
    batch = Batch(monkeypatch, bad=set(range(500)), error=ValueError("odd"))
    await batch.run(500)
    assert len(batch.buried) == 500
    assert len(batch.waits) == 2


async def test_a_failure_that_passes_costs_no_letter(monkeypatch):
    batch = Batch(monkeypatch, bad={1}, error=ValueError("odd"))
    handle = batch._handle

    async def recovers(msg):
        batch.bad = {1} if batch.calls == 0 else ()
        await handle(msg)

    batch._handle = recovers
    await batch.run(3)
    assert (batch.buried, batch.calls) == ([], 2)


async def test_an_outage_passes_through(monkeypatch):
    batch = Batch(monkeypatch, bad={1}, error=Outage("away"))
    with pytest.raises(Outage):
        await batch.run(3)
    assert (batch.buried, batch.calls) == ([], 1)


@pytest.fixture(autouse=True)
def quiet():
    stamina.instrumentation.set_on_retry_hooks([])
    yield
    stamina.instrumentation.set_on_retry_hooks(None)

"""CloudEvents attributes in headers, and one trace id per object."""

import pytest

from shared.cloud_events import headers_for
from shared.events import ObjectChanged, SweepRequested

TRACE = "0123456789abcdef" * 2


def event(**changes):
    return ObjectChanged(**{"change": "stored", "bucket": "inbox", "key": "a", "correlation_id": TRACE} | changes)


def test_event_has_cloudevents_headers():
    headers = headers_for(event(), source="ingest")
    assert {
        name: headers[name] for name in ("ce_specversion", "ce_type", "ce_source", "ce_subject", "content-type")
    } == {
        "ce_specversion": "1.0",
        "ce_type": "penstock.objects.changed.v1",
        "ce_source": "/penstock/ingest",
        "ce_subject": "inbox/a",
        "content-type": "application/json",
    }
    assert headers["ce_id"] == event().event_id
    assert headers["ce_time"].endswith("+00:00")


def test_trace_id_equals_correlation_id():
    assert headers_for(event(), source="x")["traceparent"] == f"00-{TRACE}-{event().event_id[:16]}-01"


@pytest.mark.parametrize("correlation_id", ["not hex", "0" * 32, "é" * 32, "A" * 32, ""])
def test_invalid_trace_id_is_replaced_by_a_valid_hash(correlation_id):
    version, trace, span, flags = headers_for(event(correlation_id=correlation_id), source="x")["traceparent"].split(
        "-"
    )
    assert (version, flags, len(span)) == ("00", "01", 16)
    assert len(trace) == 32
    assert int(trace, 16)


def test_events_without_an_id_do_not_share_a_trace():
    first, second = (headers_for(SweepRequested(sweep_id=one), source="x")["traceparent"] for one in "ab")
    assert first[:35] != second[:35]


@pytest.mark.parametrize("key", ["é", "😀", "a\nb", "a\x00", "\udcff"], ids=ascii)
def test_headers_are_encodable_for_any_key(key):
    for value in headers_for(event(key=key), source="x").values():
        assert value.encode("utf-8")

"""A header name that is no text costs its own record at most, whichever parser meets it."""

import pytest
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from shared.aiokafka_patches import HeaderEscapingRecords
from shared.bus import create_broker
from shared.settings import Settings


class Name(str):
    __slots__ = ()

    def encode(self, *_args):
        return b"\xff\xfe"


def batch(*names, compression=0, base=0):
    made = _DefaultRecordBatchBuilderPy(2, compression, 0, -1, -1, -1, 1 << 20)
    for nth, name in enumerate(names):
        made.append(nth, 1_700_000_000_000, b"k%d" % nth, b"v%d" % nth, [(name, b"x")] if name else [])
    raw = bytearray(made.build())
    raw[:8] = base.to_bytes(8, "big")
    return bytes(raw)


def read(raw):
    records, found = HeaderEscapingRecords(raw), []
    while records.has_next():
        one = records.next_batch()
        assert one.validate_crc()
        found += [(record.offset, record.value, record.headers) for record in one]
    return found


@pytest.mark.parametrize("compression", [0, 1], ids=["plain", "gzip"])
def test_a_name_that_is_no_text_is_escaped_and_its_neighbours_are_whole(compression):
    found = read(batch("trace", Name("?"), None, "é", compression=compression))
    assert [offset for offset, _, _ in found] == [0, 1, 2, 3]
    assert [value for _, value, _ in found] == [b"v0", b"v1", b"v2", b"v3"]
    assert [names for _, _, headers in found for names, _ in headers] == ["trace", "\\xff\\xfe", "é"]


def test_batches_before_and_after_are_read_as_ever():
    found = read(batch("a", None) + batch(Name("?"), base=2) + batch(None, base=3))
    assert [offset for offset, _, _ in found] == [0, 1, 2, 3]


def test_a_batch_cut_off_at_the_end_of_a_fetch_waits_for_the_next():
    assert len(read(batch(None, None) + batch(None)[:-3])) == 2


def test_consumers_of_our_brokers_read_so():
    create_broker(Settings(), "svc")
    assert fetcher.MemoryRecords is HeaderEscapingRecords

"""How an upload in parts is cut, and tickets that no client can change."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingress.core.multipart_tickets import MAX_PARTS, PART_BYTES, Ticket, TicketSigner

TICKET = Ticket("inbox", "a/ä", "upload", 5, "root", "mark", datetime(2026, 1, 2, tzinfo=UTC), "0" * 32)


@given(st.integers(1, 5 << 40))
def test_parts_cover_the_file_within_store_limits(size):
    ticket = replace(TICKET, size=size)
    last = ticket.size_of(ticket.parts)
    assert ticket.parts <= MAX_PARTS
    assert 0 < last <= ticket.part_bytes
    assert (ticket.parts - 1) * ticket.part_bytes + last == size
    assert PART_BYTES <= ticket.part_bytes <= 5 << 30


def test_incomplete_and_absent_parts_are_missing():
    ticket = replace(TICKET, size=2 * PART_BYTES + 7)
    assert ticket.missing([]) == [1, 2, 3]
    assert ticket.missing([(1, PART_BYTES), (2, PART_BYTES - 1), (3, 7)]) == [2]
    assert ticket.missing([(1, PART_BYTES), (2, PART_BYTES), (3, 7)]) == []


def test_ticket_round_trips_through_its_signature():
    tickets = TicketSigner(b"key")
    assert tickets.unsign(tickets.sign(TICKET)) == TICKET


@pytest.mark.parametrize("at", [0, 10, -1])
def test_changed_ticket_is_invalid(at):
    sign = TicketSigner(b"key").sign(TICKET)
    changed = list(sign)
    changed[at] = "A" if changed[at] != "A" else "B"
    assert TicketSigner(b"key").unsign("".join(changed)) is None


def test_ticket_of_another_key_is_invalid():
    assert TicketSigner(b"other").unsign(TicketSigner(b"key").sign(TICKET)) is None


@given(st.text())
def test_no_text_is_a_ticket_by_chance(text):
    assert TicketSigner(b"key").unsign(text) is None

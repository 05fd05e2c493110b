"""The records behind a message, however many."""

from collections.abc import Sequence
from typing import Any

from aiokafka import ConsumerRecord

Record = ConsumerRecord[bytes | None, bytes | None]


def records_of(msg: Any) -> Sequence[Record]:
    """Return the raw records of a FastStream message; a single one counts as a batch of one."""
    raw = msg.raw_message
    return raw if isinstance(raw, Sequence) else (raw,)

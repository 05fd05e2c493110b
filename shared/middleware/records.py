"""Raw Kafka records of FastStream messages."""

from collections.abc import Sequence
from typing import Any

from aiokafka import ConsumerRecord

Record = ConsumerRecord[bytes | None, bytes | None]


def records_of(msg: Any) -> Sequence[Record]:
    """Return the raw records of a FastStream message, single or batch."""
    raw = msg.raw_message
    return raw if isinstance(raw, Sequence) else (raw,)


def stored_record(  # noqa: PLR0913, PLR0917 - these are the parts of a record
    topic: str,
    partition: int,
    offset: int,
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes]] = (),
) -> Record:
    """Rebuild a record from stored values, as a consumer would return it."""
    return ConsumerRecord(
        topic=topic,
        partition=partition,
        offset=offset,
        timestamp=0,
        timestamp_type=0,
        key=key,
        value=value,
        checksum=None,
        serialized_key_size=len(key or b""),
        serialized_value_size=len(value or b""),
        headers=tuple(headers),
    )

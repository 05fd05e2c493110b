"""Records whose header names are no text: read like any other, so that they end as dead letters.

Header names are UTF-8 by Kafka's protocol, but brokers take any bytes. aiokafka 0.14 refuses the whole fetch for one
such name, forgets the good records read before it, and asks for the bad one for ever: one hostile record loses its
neighbours and stops its partition. Here a batch that aiokafka cannot read is read again with such names escaped.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy

_MAGIC_AT = 16
"""Where a batch says its format; those before 2 have no headers."""


class _Bytes(bytearray):
    """Bytes whose slices become text whatever they hold."""

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        return _Bytes(found) if isinstance(found, bytearray) else found

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, errors)


class _Escaping(_DefaultRecordBatchPy):  # type: ignore[misc]
    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer = _Bytes(self._buffer)


class _Batch:
    """A batch of aiokafka's; read again by `_Escaping` from where it fails."""

    def __init__(self, batch: Any, raw: memoryview) -> None:
        self._batch = batch
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        read = 0
        try:
            for record in self._batch:
                yield record
                read += 1
        except (UnicodeDecodeError, CorruptRecordException):
            if self._raw[_MAGIC_AT] < 2:  # noqa: PLR2004 - see above
                raise
            yield from islice(_Escaping(self._raw), read, None)


class HeaderEscapingRecords:
    """What a fetch brought of one partition."""

    def __init__(self, raw: bytes) -> None:
        self._records: Any = MemoryRecords(raw)
        self._slices: Any = _MemoryRecordsPy(raw)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._records, name)

    def next_batch(self) -> _Batch | None:
        """Return the next batch; None when there is no whole one left."""
        raw, batch = self._slices._next_slice, self._records.next_batch()  # noqa: SLF001 - its only cursor
        self._slices._cache_next()  # noqa: SLF001
        return None if batch is None else _Batch(batch, raw)


def install() -> None:
    """Let every consumer of this process read so."""
    fetcher.MemoryRecords = HeaderEscapingRecords  # type: ignore[assignment, attr-defined]

"""Patch aiokafka to read records whose header names are not UTF-8, so that they become dead letters.

Kafka's protocol says that header names are UTF-8, but brokers accept any bytes. aiokafka 0.14 fails the whole fetch for
one such name, drops the records decoded before it, and fetches the same record forever: one hostile record loses its
neighbors and stops its partition. The patch decodes a batch that aiokafka cannot decode again, with invalid names
escaped. `test_aiokafka_still_fails_on_invalid_header_names` fails once aiokafka reads them; then remove this module.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy

_MAGIC_OFFSET = 16
_FIRST_MAGIC_WITH_HEADERS = 2
"""The offset of the format version (magic) in a batch; versions before 2 have no headers."""


class _Bytes(bytearray):
    """Bytes whose slices decode to text with invalid bytes escaped."""

    def __getitem__(self, index: Any) -> Any:
        item = super().__getitem__(index)
        return _Bytes(item) if isinstance(item, bytearray) else item

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, errors)


class _EscapingBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer = _Bytes(self._buffer)


class _Batch:
    """A batch of aiokafka; where decoding fails, `_EscapingBatch` continues."""

    def __init__(self, batch: Any, raw: memoryview) -> None:
        self._batch = batch
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        decoded = 0
        try:
            for record in self._batch:
                yield record
                decoded += 1
        except (UnicodeDecodeError, CorruptRecordException):
            if self._raw[_MAGIC_OFFSET] < _FIRST_MAGIC_WITH_HEADERS:
                raise
            yield from islice(_EscapingBatch(self._raw), decoded, None)


class HeaderEscapingRecords:
    """The records that a fetch returned for one partition."""

    def __init__(self, raw: bytes) -> None:
        self._records: Any = MemoryRecords(raw)
        self._slices: Any = _MemoryRecordsPy(raw)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._records, name)

    def next_batch(self) -> _Batch | None:
        """Return the next batch; None if no complete one is left."""
        raw, batch = self._slices._next_slice, self._records.next_batch()  # noqa: SLF001 - aiokafka offers no other cursor
        self._slices._cache_next()  # noqa: SLF001
        return None if batch is None else _Batch(batch, raw)


def install() -> None:
    """Patch all consumers of this process."""
    fetcher.MemoryRecords = HeaderEscapingRecords  # type: ignore[assignment, attr-defined]

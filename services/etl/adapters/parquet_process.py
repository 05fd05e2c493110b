"""Read Parquet in a subprocess, because damaged or hostile bytes can make polars abort its process."""

import multiprocessing
import os
import re
import resource
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import polars as pl

from services.etl.core.datasets import Dataset
from services.etl.core.file_types import HEAD_BYTES, require_parquet
from services.etl.core.frames import Batch, empty_frame
from services.etl.core.parquet import MAX_ROW_BYTES, expands_too_far, not_parquet, read_batches
from services.etl.core.rejects import RejectedFile
from services.etl.core.values import LINE, ParsedRows, RejectedRow
from shared.errors import PenstockError

_MAX_SMALL_ROWS: Final = 100_000
"""Maximum rows of a small file."""
_MAX_SILENCE_SECONDS: Final = 60
_POLL_SECONDS: Final = 0.5
MEMORY_BYTES: Final = 512 << 20
"""Memory limit of the subprocess (RLIMIT_DATA), including 70 MiB of its own."""
_ADDRESS_BYTES: Final = 4 << 30
"""Address space limit of the subprocess; its threads reserve most of it without using it."""
_STDERR_BYTES: Final = 64 << 10
_OUT_OF_MEMORY: Final = re.compile(rb"memory allocation of \d{1,13} bytes|[Cc]annot allocate|[Oo]ut of memory")
"""Plausible allocations only: a file that requests more than a terabyte is damaged."""
_CRASHES: Final = {-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL, -signal.SIGFPE}
"""Exit codes caused by the file; other signals come from outside."""


class ReaderLost(PenstockError):  # noqa: N818 - errors here are named after the event
    """The subprocess that read a file was stopped from outside, not by the file."""


def parquet_rows(body: bytes, key: str, dataset: Dataset) -> ParsedRows:
    """Read a whole small Parquet file.

    Raises:
        RejectedFile: also if the file has more than 100,000 rows.

    """
    batches = list(_limit_rows(_read_in_subprocess(_ReadRequest(body, key, dataset))))
    frame = pl.concat([empty_frame(dataset), *(batch.frame for batch in batches)])
    rejects = [reject for batch in batches for reject in batch.rejects]
    return ParsedRows(frame[LINE].to_list(), frame.drop(LINE).rows(), rejects)


def parquet_batches(
    path: Path,
    dataset: Dataset,
    key: str = "",
    *,
    memory_bytes: int = MEMORY_BYTES,
    row_bytes: int = MAX_ROW_BYTES,
) -> Iterator[Batch]:
    """Read a local Parquet file in bounded memory; `key` is the object's key, if it differs from the file name.

    Reject a file that needs more than `memory_bytes`, or has a row of more than `row_bytes`.
    """
    try:
        yield from _read_in_subprocess(_ReadRequest(path, key or path.name, dataset, memory_bytes, row_bytes))
    except RejectedFile as rejected:
        yield Batch(empty_frame(dataset), [rejected.reject])


@dataclass(frozen=True, slots=True)
class _ReadRequest:
    """A file to read, and its limits."""

    source: Path | bytes
    key: str
    dataset: Dataset
    memory_bytes: int = MEMORY_BYTES
    row_bytes: int = MAX_ROW_BYTES


def _read_in_subprocess(request: _ReadRequest) -> Iterator[Batch]:
    """Yield the rows of a Parquet file, read by a subprocess of bounded memory.

    The subprocess ends after the last row, or when the generator is closed.

    Raises:
        RejectedFile: the file cannot be read within its limits.
        ReaderLost: the subprocess was stopped from outside.

    """
    require_parquet(_read_head(request.source))
    context = multiprocessing.get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    stderr_reader, stderr_writer = context.Pipe(duplex=False)
    child = context.Process(target=_send_batches, args=(writer, stderr_writer, request), daemon=True)
    child.start()
    writer.close()
    stderr_writer.close()
    try:
        while (batch := _receive(reader, stderr_reader, request)) is not None:
            yield batch
    except (EOFError, OSError):  # the pipe closed between two batches or within one
        child.join()
        if child.exitcode not in _CRASHES:
            raise ReaderLost(
                f"the process that read {request.key} ended with {child.exitcode}; it is read again"
            ) from None
        _raise_if_out_of_memory(stderr_reader, request)
        raise not_parquet("reading it ends in a crash") from None
    finally:
        child.kill()
        child.join()
        child.close()
        reader.close()
        stderr_reader.close()


def _read_head(source: Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source[:HEAD_BYTES]
    with source.open("rb") as file:
        return file.read(HEAD_BYTES)


def _receive(reader: Connection, stderr_reader: Connection, request: _ReadRequest) -> Batch | None:
    deadline = time.monotonic() + _MAX_SILENCE_SECONDS
    while not reader.poll(_POLL_SECONDS):
        _raise_if_out_of_memory(stderr_reader, request)  # one thread may have died while the others wait for it
        if time.monotonic() > deadline:
            raise not_parquet("reading takes too long")
    batch = reader.recv()
    if isinstance(batch, RejectedRow):
        raise RejectedFile(batch.code, batch.reason, column=batch.column, value=batch.value)
    return None if batch is None else Batch(pl.read_ipc_stream(batch[0]), batch[1])


def _raise_if_out_of_memory(stderr_reader: Connection, request: _ReadRequest) -> None:
    """Raise RejectedFile if the subprocess reported on stderr that it ran out of memory."""
    if stderr_reader.poll() and _OUT_OF_MEMORY.search(os.read(stderr_reader.fileno(), _STDERR_BYTES)):
        raise _out_of_memory(request.memory_bytes) from None


def _out_of_memory(memory_bytes: int) -> RejectedFile:
    return expands_too_far(
        f"reading the file takes more than {memory_bytes >> 20} MiB of memory; "
        "write it with smaller row groups, or raise PENSTOCK_ETL_PARQUET_BYTES"
    )


def _set_limit(kind: int, limit: int) -> None:
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _send_batches(writer: Connection, stderr: Connection, request: _ReadRequest) -> None:
    _set_limit(resource.RLIMIT_AS, _ADDRESS_BYTES)
    _set_limit(resource.RLIMIT_DATA, request.memory_bytes)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(stderr.fileno(), 2)  # a crash becomes a reject instead of pages of log
    os.set_blocking(2, False)
    try:
        for batch in read_batches(request.source, request.key, request.dataset, request.row_bytes):
            writer.send((batch.frame.write_ipc_stream(None).getvalue(), batch.rejects))
        writer.send(None)
    except RejectedFile as rejected:
        writer.send(rejected.reject)
    except MemoryError:
        writer.send(_out_of_memory(request.memory_bytes).reject)


def _limit_rows(batches: Iterator[Batch]) -> Iterator[Batch]:
    total = 0
    for batch in batches:
        total += batch.frame.height + len(batch.rejects)
        if total > _MAX_SMALL_ROWS:
            raise RejectedFile("TOO_MANY_ROWS", f"more than {_MAX_SMALL_ROWS:,} rows in a small file; store it as CSV")
        yield batch

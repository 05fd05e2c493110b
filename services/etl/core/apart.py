"""Parquet, read by a process of its own: damaged or hostile bytes make polars abort whatever process it runs in."""

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

from services.etl.core.columnar import MAX_ROW_BYTES, batches_of, expands_too_far, no_parquet
from services.etl.core.datasets import Dataset
from services.etl.core.frames import Batch, empty
from services.etl.core.recognizing import HEAD_BYTES, refuse_no_parquet
from services.etl.core.refusing import Refused
from services.etl.core.values import LINE, Reject, Rows
from shared.errors import PenstockError

_FEW: Final = 100_000
"""The most rows that are read at once."""
_PATIENCE_SECONDS: Final = 60
_LOOK_SECONDS: Final = 0.5
MEMORY_BYTES: Final = 512 << 20
"""What the process that reads may write to, its programs' own 70 MiB included."""
_ADDRESS_BYTES: Final = 4 << 30
"""Its address space, of which its threads reserve the most without using it."""
_STDERR_BYTES: Final = 64 << 10
_OUT_OF_MEMORY: Final = re.compile(rb"memory allocation of \d{1,13} bytes|[Cc]annot allocate|[Oo]ut of memory")
"""Of something that there could be; a file that asks for more than a terabyte is damaged."""
_CRASHES: Final = {-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL, -signal.SIGFPE}
"""Ends that the file's bytes bring about; whoever is stopped from outside says nothing about them."""


class ReaderLost(PenstockError):  # noqa: N818 - what happened, as everywhere here
    """The process that read a file is gone, and it was not the file's fault."""


def parquet_rows(body: bytes, key: str, dataset: Dataset) -> Rows:
    """Read a small Parquet file whole; raises Refused, also when few bytes turn out to be very many rows."""
    batches = list(_few(_batches_apart(_Asked(body, key, dataset))))
    frame = pl.concat([empty(dataset), *(batch.frame for batch in batches)])
    rejects = [reject for batch in batches for reject in batch.rejects]
    return Rows(frame[LINE].to_list(), frame.drop(LINE).rows(), rejects)


def parquet_batches(
    path: Path,
    dataset: Dataset,
    key: str = "",
    *,
    memory_bytes: int = MEMORY_BYTES,
    row_bytes: int = MAX_ROW_BYTES,
) -> Iterator[Batch]:
    """Read a local Parquet file in bounded memory; `key` is the object's, when the path is another.

    A file that needs more than `memory_bytes` to be read, or has a row of more than `row_bytes`, is refused.
    """
    try:
        yield from _batches_apart(_Asked(path, key or path.name, dataset, memory_bytes, row_bytes))
    except Refused as refused:
        yield Batch(empty(dataset), [refused.reject])


@dataclass(frozen=True, slots=True)
class _Asked:
    """What to read, and how much it may take."""

    source: Path | bytes
    key: str
    dataset: Dataset
    memory_bytes: int = MEMORY_BYTES
    row_bytes: int = MAX_ROW_BYTES


def _batches_apart(asked: _Asked) -> Iterator[Batch]:
    """Yield the rows of a Parquet file, read by a process of its own; raises Refused.

    That process is bounded in memory, and gone when the last row is read or nobody wants one.
    """
    refuse_no_parquet(_head_of(asked.source))
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe(duplex=False)
    said, its_stderr = context.Pipe(duplex=False)
    child = context.Process(target=_send_batches, args=(its, its_stderr, asked), daemon=True)
    child.start()
    its.close()
    its_stderr.close()
    try:
        while (found := _received(ours, said, asked)) is not None:
            yield found
    except (EOFError, OSError):  # between two batches, or in the middle of one
        child.join()
        if child.exitcode not in _CRASHES:
            raise ReaderLost(
                f"the process that read {asked.key} ended with {child.exitcode}; it is read again"
            ) from None
        _refuse_memory(said, asked)
        raise no_parquet("reading it ends in a crash") from None
    finally:
        child.kill()
        child.join()
        child.close()
        ours.close()
        said.close()


def _head_of(source: Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source[:HEAD_BYTES]
    with source.open("rb") as file:
        return file.read(HEAD_BYTES)


def _received(ours: Connection, said: Connection, asked: _Asked) -> Batch | None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not ours.poll(_LOOK_SECONDS):
        _refuse_memory(said, asked)  # one of its threads may be gone, and the others wait for it
        if time.monotonic() > deadline:
            raise no_parquet("reading takes too long")
    found = ours.recv()
    if isinstance(found, Reject):
        raise Refused(found.code, found.reason, column=found.column, value=found.value)
    return None if found is None else Batch(pl.read_ipc_stream(found[0]), found[1])


def _refuse_memory(said: Connection, asked: _Asked) -> None:
    """Raise Refused when the process says on its error output that memory is short."""
    if said.poll() and _OUT_OF_MEMORY.search(os.read(said.fileno(), _STDERR_BYTES)):
        raise _too_much_memory(asked.memory_bytes) from None


def _too_much_memory(memory_bytes: int) -> Refused:
    return expands_too_far(
        f"reading the file takes more than {memory_bytes >> 20} MiB of memory; "
        "write it with smaller row groups, or raise PENSTOCK_ETL_PARQUET_BYTES"
    )


def _limit(what: int, most: int) -> None:
    _, hard = resource.getrlimit(what)
    resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _send_batches(its: Connection, stderr: Connection, asked: _Asked) -> None:
    _limit(resource.RLIMIT_AS, _ADDRESS_BYTES)
    _limit(resource.RLIMIT_DATA, asked.memory_bytes)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(stderr.fileno(), 2)  # its crash is told as a reject, not as pages of a log
    os.set_blocking(2, False)
    try:
        for batch in batches_of(asked.source, asked.key, asked.dataset, asked.row_bytes):
            its.send((batch.frame.write_ipc_stream(None).getvalue(), batch.rejects))
        its.send(None)
    except Refused as refused:
        its.send(refused.reject)
    except MemoryError:
        its.send(_too_much_memory(asked.memory_bytes).reject)


def _few(batches: Iterator[Batch]) -> Iterator[Batch]:
    total = 0
    for batch in batches:
        total += batch.frame.height + len(batch.rejects)
        if total > _FEW:
            raise Refused("TOO_MANY_ROWS", f"more than {_FEW:,} rows in a small file; store it as CSV")
        yield batch

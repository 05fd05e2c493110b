"""Parquet, read by a process of its own: damaged or hostile bytes make polars abort whatever process it runs in."""

import multiprocessing
import os
import resource
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import polars as pl

from services.etl.core.columnar import frames_of, no_parquet
from services.etl.core.datasets import Dataset
from services.etl.core.frames import Batch, empty
from services.etl.core.refusing import Refused
from services.etl.core.values import LINE, Reject, Rows
from shared.errors import PenstockError

_FEW: Final = 100_000
"""The most rows that are read at once."""
_PATIENCE_SECONDS: Final = 300
_MEMORY_BYTES: Final = 4 << 30
"""Address space of the process that reads, of which its threads reserve the most without using it."""
_CRASHES: Final = {-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGILL, -signal.SIGFPE}
"""Ends that the file's bytes bring about; whoever is stopped from outside says nothing about them."""


class ReaderLost(PenstockError):  # noqa: N818 - what happened, as everywhere here
    """The process that read a file is gone, and it was not the file's fault."""


def parquet_rows(body: bytes, key: str, dataset: Dataset) -> Rows:
    """Read a small Parquet file whole; raises Refused, also when few bytes turn out to be very many rows."""
    frame = pl.concat([empty(dataset), *_few(frames_apart(body, key, dataset))])
    return Rows(frame[LINE].to_list(), frame.drop(LINE).rows())


def parquet_batches(path: Path, dataset: Dataset, key: str = "") -> Iterator[Batch]:
    """Read a local Parquet file in bounded memory; `key` is the object's, when the path is another."""
    try:
        for frame in frames_apart(path, key or path.name, dataset):
            yield Batch(frame, [])
    except Refused as refused:
        yield Batch(empty(dataset), [refused.reject])


def frames_apart(source: Path | bytes, key: str, dataset: Dataset) -> Iterator[pl.DataFrame]:
    """Yield the rows of a Parquet file, read by a process of its own; raises Refused.

    That process is bounded in memory, and gone when the last row is read or nobody wants one.
    """
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe(duplex=False)
    child = context.Process(target=_send_frames, args=(its, source, key, dataset), daemon=True)
    child.start()
    its.close()
    try:
        while (found := _received(ours)) is not None:
            yield found
    except (EOFError, OSError):  # between two batches, or in the middle of one
        child.join()
        if child.exitcode not in _CRASHES:
            raise ReaderLost(f"the process that read {key} ended with {child.exitcode}; it is read again") from None
        raise no_parquet("reading it ends in a crash") from None
    finally:
        child.kill()
        child.join()
        child.close()
        ours.close()


def _received(ours: Connection) -> pl.DataFrame | None:
    if not ours.poll(_PATIENCE_SECONDS):
        raise no_parquet("reading takes too long")
    found = ours.recv()
    if isinstance(found, Reject):
        raise Refused(found.code, found.reason, column=found.column, value=found.value)
    return None if found is None else pl.read_ipc_stream(found)


def _send_frames(its: Connection, source: Path | bytes, key: str, dataset: Dataset) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    memory = _MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(_MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_AS, (memory, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # its crash is told as a reject, not as pages of a log
    try:
        for frame in frames_of(source, key, dataset):
            its.send(frame.write_ipc_stream(None).getvalue())
        its.send(None)
    except Refused as refused:
        its.send(refused.reject)
    except MemoryError:
        its.send(no_parquet("reading it takes too much memory").reject)


def _few(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    total = 0
    for frame in frames:
        total += frame.height
        if total > _FEW:
            raise Refused("TOO_MANY_ROWS", f"more than {_FEW:,} rows in a small file; store it as CSV")
        yield frame

"""`penstock put`: store files and folders in a bucket."""

import asyncio
import mimetypes
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from services.cli.adapters import s3
from services.cli.adapters.errors import translate_errors
from services.cli.adapters.files import LocalFile
from services.cli.adapters.http import HttpUploader, IngressClient
from services.cli.adapters.journal import Journal
from services.cli.adapters.objects import StoredObject
from services.cli.adapters.plan import UploadPlan, split_paths
from services.cli.adapters.upload import Uploader, UploadOptions, task_group
from services.cli.adapters.waiting import FetchRows, wait_for_digests
from services.cli.core.address import Address, require_valid_key
from services.cli.core.digests import DigestState
from services.cli.core.text import human_bytes, plural
from services.cli.core.usage import UsageError
from services.cli.digest_output import combined_exit_code, digests_document, show_digests
from services.cli.settings import CliSettings, load
from services.cli.terminal import Json, is_terminal, note, print_json, progress, say, spinner
from shared.errors import Rejected
from shared.text import visible

FATAL_CODES = frozenset({"ACCESS_DENIED", "NO_SUCH_BUCKET"})
"""Rejections that every other file would get too."""

MAX_LISTED = 20
"""Maximum number of stored objects that are listed on a terminal."""

Advance = Callable[[int], object]
OpenUploader = Callable[[Advance], AbstractAsyncContextManager[Uploader | HttpUploader]]
"""Opens an uploader that advances the progress bar by the number of bytes stored."""


@dataclass(slots=True)
class Outcome:
    """The stored objects and the files that failed with their reasons."""

    stored: dict[Address, StoredObject] = field(default_factory=dict)
    failed: list[tuple[str, str]] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    @property
    def size(self) -> int:
        """Bytes stored."""
        return sum(one.size for one in self.stored.values())

    def summary(self) -> str:
        """Return counts, bytes and rate in one line."""
        seconds = max(time.monotonic() - self.started, 1e-3)
        text = f"{plural(len(self.stored), 'object')}, {human_bytes(self.size)} in {seconds:.1f} s"
        rate = f" ({human_bytes(self.size / seconds)}/s)"
        return text + rate + (f", {plural(len(self.failed), 'file')} failed" if self.failed else "")


async def put(  # noqa: PLR0913 - flags of the command
    *paths: str,
    wait: bool = False,
    timeout: float = 300,  # noqa: ASYNC109 - a flag of the command
    checksum: Literal["md5", "sha256"] | None = None,
    digests: str = "",
    meta: tuple[str, ...] = (),
    content_type: str = "",
    as_key: bool = False,
    parallel: int = 8,
    url: str = "",
    json: Json = False,
) -> int:
    """Store files or folders below a prefix, in parallel and large files in parts.

    A folder keeps its name below the prefix, as with `cp -r`; with a trailing
    slash (`photos/`) only its content is stored. After an interruption, the same
    command resumes. A file that cannot be stored does not stop the others.

    For example:
        penstock put report.pdf s3://inbox/reports
        penstock put photos/ notes.txt s3://inbox/2026 --wait
        penstock put disk.img s3://inbox --checksum sha256 --wait --json
        penstock put a.csv s3://src-data/1000.csv --as-key
        penstock put report.pdf s3://inbox --url http://127.0.0.1:8080

    Parameters
    ----------
    paths:
        FILE... and, last, the target s3://bucket/prefix.
    wait:
        Wait for the digests and show them; exit code 3 if some are still pending after --timeout.
    timeout:
        Seconds to wait for digests (300).
    checksum:
        Compute this digest locally and send it as x-amz-meta-..., so that the hasher verifies the stored bytes.
    digests:
        Digests to compute instead of the default ones, such as `sha512,blake3`.
    meta:
        User metadata, NAME=VALUE.
    content_type:
        Content type of all files; default: guessed from each name.
    as_key:
        The target is the whole key of a single file.
    parallel:
        Maximum requests in flight (8).
    url:
        Upload through the ingress at this URL, with PENSTOCK_TOKEN, instead of to the object store.

    """
    settings = load()
    sources, target = split_paths(paths)
    options = UploadOptions(
        metadata=_metadata(meta, digests),
        content_type=lambda path: content_type or mimetypes.guess_type(path.name)[0] or "application/octet-stream",
        checksum=checksum or "",
        parallel=max(1, parallel),
    )
    plan = UploadPlan(sources, target, as_key=as_key)
    count, size = await asyncio.to_thread(plan.measure)
    command = [*plan.identity(), checksum or "", digests, *meta]
    with Journal(settings.journal_dir, command) as journal:
        open_uploader = _to_ingress(settings, url, options) if url else _to_bucket(settings, journal, options)
        outcome = await _store_all(open_uploader, plan, options.parallel, (count, size))
        if not outcome.failed:
            journal.remove()
    async with _digest_source(settings, url) as fetch_rows:
        states = await _wait_for_states(settings, outcome, timeout, fetch_rows, json=json) if wait else {}
    return _report(outcome, states, wait=wait, json=json)


def _metadata(meta: Sequence[str], digests: str) -> dict[str, str]:
    pairs = [one.partition("=") for one in meta]
    if invalid := [name for name, mark, _ in pairs if not mark or not name]:
        raise UsageError(f"put: --meta {invalid[0]} has no value: write --meta NAME=VALUE")
    return {name.lower(): value for name, _, value in pairs} | ({"penstock-digests": digests} if digests else {})


async def _store_all(open_uploader: OpenUploader, plan: UploadPlan, parallel: int, total: tuple[int, int]) -> Outcome:
    outcome = Outcome()
    async with _progress_bar(total) as advance, open_uploader(advance) as uploader:
        pairs = plan.pairs()
        async with task_group() as group:
            for _ in range(parallel):
                group.create_task(_work(pairs, uploader, outcome))
    return outcome


def _to_bucket(settings: CliSettings, journal: Journal, options: UploadOptions) -> OpenUploader:
    """Upload to the object store, large files in parts that an interrupted command resumes."""

    @asynccontextmanager
    async def open_uploader(advance: Advance) -> AsyncIterator[Uploader]:
        if not journal.is_empty:
            note("resuming an earlier run")
        async with s3.open_s3(settings, connections=options.parallel + 2, attempts=5) as client:
            yield Uploader(client, journal, options, advance)

    return open_uploader


def _to_ingress(settings: CliSettings, url: str, options: UploadOptions) -> OpenUploader:
    """Upload through the ingress, each file in one request."""

    @asynccontextmanager
    async def open_uploader(advance: Advance) -> AsyncIterator[HttpUploader]:
        async with IngressClient.from_settings(settings, url) as ingress:
            yield HttpUploader(ingress, options, advance)

    return open_uploader


async def _work(
    pairs: Iterator[tuple[LocalFile, Address]], uploader: Uploader | HttpUploader, outcome: Outcome
) -> None:
    """Store files until none are left; record a rejected file, raise an outage."""
    for file, address in pairs:
        try:
            with translate_errors(visible(str(address))):
                outcome.stored[address] = await uploader.store(file.path, require_valid_key(address))
        except Rejected as error:
            if error.code in FATAL_CODES:
                raise
            outcome.failed.append((str(file.path), str(error)))


@asynccontextmanager
async def _progress_bar(total: tuple[int, int]) -> AsyncIterator[Any]:
    count, size = total
    with progress() as bar:
        task = bar.add_task(plural(count, "file"), total=size)
        yield lambda done: bar.advance(task, done)


@asynccontextmanager
async def _digest_source(settings: CliSettings, url: str) -> AsyncIterator[FetchRows | None]:
    """Yield the function that fetches digest rows from the ingress at `url`; None: from the database."""
    if not url:
        yield None
        return
    async with IngressClient.from_settings(settings, url) as ingress:
        yield ingress.digest_rows


async def _wait_for_states(
    settings: CliSettings, outcome: Outcome, seconds: float, fetch_rows: FetchRows | None, *, json: bool
) -> dict[Address, DigestState]:
    if not json:
        _show_stored(outcome, briefly=True)
    etags = {address: one.etag for address, one in outcome.stored.items()}
    with spinner(f"waiting for the digests of {plural(len(etags), 'object')}"):
        return await wait_for_digests(settings, etags, seconds, fetch_rows=fetch_rows)


def _report(outcome: Outcome, states: dict[Address, DigestState], *, wait: bool, json: bool) -> int:
    if json:
        print_json(_document(outcome, states))
    elif not wait:
        _show_stored(outcome, briefly=False)
    for address, state in states.items():
        if not json:
            show_digests(address, state)
    return 1 if outcome.failed else combined_exit_code(states.values())


def _show_stored(outcome: Outcome, *, briefly: bool) -> None:
    if not briefly and (len(outcome.stored) <= MAX_LISTED or not is_terminal()):
        for address, one in outcome.stored.items():
            say(f"{address}  {human_bytes(one.size)}")
    for _, reason in outcome.failed:
        note(f"penstock: put: {reason}", style="red")
    note(outcome.summary())


def _document(outcome: Outcome, states: dict[Address, Any]) -> dict[str, Any]:
    objects = [
        {
            "bucket": address.bucket,
            "key": address.key,
            "url": str(address),
            "etag": one.etag,
            "size": one.size,
        }
        | ({"digest": digests_document(address, states[address])} if address in states else {})
        for address, one in outcome.stored.items()
    ]
    failed = [{"file": path, "error": reason} for path, reason in outcome.failed]
    seconds = round(time.monotonic() - outcome.started, 3)
    return {"objects": objects, "failed": failed, "bytes": outcome.size, "seconds": seconds}

"""`penstock put`: files and folders into a bucket."""

import asyncio
import mimetypes
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from services.cli.adapters import s3
from services.cli.adapters.files import LocalFile
from services.cli.adapters.http import HttpUploader, Ingress
from services.cli.adapters.journal import Journal
from services.cli.adapters.objects import Stored
from services.cli.adapters.plan import Plan, paths_of
from services.cli.adapters.trouble import reaching
from services.cli.adapters.upload import Manners, Uploader, together
from services.cli.adapters.waiting import Ask, wait_for_digests
from services.cli.core.address import Address, checked
from services.cli.core.digests import Verdict
from services.cli.core.text import human_bytes, plural
from services.cli.core.usage import WrongUsage
from services.cli.settings import CliSettings, load
from services.cli.terminal import Json, emit, is_terminal, note, progress, say, spinner
from services.cli.verdicts import show_verdict, verdict_document, worst
from shared.errors import Rejected
from shared.text import visible

HOPELESS = frozenset({"ACCESS_DENIED", "NO_SUCH_BUCKET"})
"""Refusals that no other file would escape."""

LISTED = 20
"""Up to so many objects are named one by one on a terminal."""


Advance = Callable[[int], object]
Uploading = Callable[[Advance], AbstractAsyncContextManager[Uploader | HttpUploader]]
"""Opens what stores files; it tells the bar of every byte."""


@dataclass(slots=True)
class Outcome:
    """What became of the files."""

    stored: dict[Address, Stored] = field(default_factory=dict)
    failed: list[tuple[str, str]] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    @property
    def size(self) -> int:
        """Bytes stored."""
        return sum(one.size for one in self.stored.values())

    def summary(self) -> str:
        """Say it in one line."""
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
    """Store files or folders below a prefix: in parallel, large files in parts.

    A folder keeps its name below the prefix, as with `cp -r`; with a slash
    behind it (`photos/`) only what is in it is stored. Interrupted, the same
    command goes on where it stopped. A file that cannot be stored is named,
    and the others go on.

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
        Wait for the digests and show them; exit code 3 when some are still pending after --timeout.
    timeout:
        Seconds to wait for digests (300).
    checksum:
        Digest the file here too and send it along (x-amz-meta-...), so that the hasher verifies what arrived.
    digests:
        Which digests to make, such as `sha512,blake3`, instead of the usual ones.
    meta:
        User metadata, NAME=VALUE.
    content_type:
        The content type; guessed from each name unless given.
    as_key:
        The target is the key itself, of a single file.
    parallel:
        Requests in flight (8).
    url:
        Go through the ingress at this address, with PENSTOCK_TOKEN, instead of to the object store.

    """
    settings = load()
    sources, target = paths_of(paths)
    manners = Manners(
        metadata=_metadata(meta, digests),
        content_type=lambda path: content_type or mimetypes.guess_type(path.name)[0] or "application/octet-stream",
        checksum=checksum or "",
        parallel=max(1, parallel),
    )
    plan = Plan(sources, target, as_key=as_key)
    count, size = await asyncio.to_thread(plan.measure)
    words = [*plan.words(), checksum or "", digests, *meta]
    with Journal(settings.journal_dir, words) as journal:
        uploading = _through(settings, url, manners) if url else _straight(settings, journal, manners)
        outcome = await _store_all(uploading, plan, manners.parallel, (count, size))
        if not outcome.failed:
            journal.forget_all()
    async with _asking(settings, url) as ask:
        verdicts = await _verdicts(settings, outcome, timeout, ask, json=json) if wait else {}
    return _report(outcome, verdicts, wait=wait, json=json)


def _metadata(meta: Sequence[str], digests: str) -> dict[str, str]:
    pairs = [one.partition("=") for one in meta]
    if wrong := [name for name, mark, _ in pairs if not mark or not name]:
        raise WrongUsage(f"put: --meta {wrong[0]} has no value; write --meta NAME=VALUE")
    return {name.lower(): value for name, _, value in pairs} | ({"penstock-digests": digests} if digests else {})


async def _store_all(uploading: Uploading, plan: Plan, parallel: int, total: tuple[int, int]) -> Outcome:
    outcome = Outcome()
    async with _bar(total) as advance, uploading(advance) as uploader:
        pairs = plan.pairs()
        async with together() as group:
            for _ in range(parallel):
                group.create_task(_work(pairs, uploader, outcome))
    return outcome


def _straight(settings: CliSettings, journal: Journal, manners: Manners) -> Uploading:
    """Store in the bucket itself, large files in parts that survive an interruption."""

    @asynccontextmanager
    async def uploading(advance: Advance) -> AsyncIterator[Uploader]:
        if not journal.is_empty:
            note("going on where an earlier run stopped")
        async with s3.open_s3(settings, connections=manners.parallel + 2, attempts=5) as client:
            yield Uploader(client, journal, manners, advance)

    return uploading


def _through(settings: CliSettings, url: str, manners: Manners) -> Uploading:
    """Store through the ingress, each file in one request."""

    @asynccontextmanager
    async def uploading(advance: Advance) -> AsyncIterator[HttpUploader]:
        async with Ingress.of(settings, url) as ingress:
            yield HttpUploader(ingress, manners, advance)

    return uploading


async def _work(
    pairs: Iterator[tuple[LocalFile, Address]], uploader: Uploader | HttpUploader, outcome: Outcome
) -> None:
    """Take files until there are none; a refused file is noted, an outage ends all."""
    for file, address in pairs:
        try:
            with reaching(visible(str(address))):
                outcome.stored[address] = await uploader.store(file.path, checked(address))
        except Rejected as refusal:
            if refusal.code in HOPELESS:
                raise
            outcome.failed.append((str(file.path), str(refusal)))


@asynccontextmanager
async def _bar(total: tuple[int, int]) -> AsyncIterator[Any]:
    count, size = total
    with progress() as bar:
        task = bar.add_task(plural(count, "file"), total=size)
        yield lambda done: bar.advance(task, done)


@asynccontextmanager
async def _asking(settings: CliSettings, url: str) -> AsyncIterator[Ask | None]:
    """Give whom to ask for digests: the database, or the ingress that stored the objects."""
    if not url:
        yield None
        return
    async with Ingress.of(settings, url) as ingress:
        yield ingress.digest_rows


async def _verdicts(
    settings: CliSettings, outcome: Outcome, seconds: float, ask: Ask | None, *, json: bool
) -> dict[Address, Verdict]:
    if not json:
        _list(outcome, briefly=True)
    etags = {address: one.etag for address, one in outcome.stored.items()}
    with spinner(f"waiting for the digests of {plural(len(etags), 'object')}"):
        return await wait_for_digests(settings, etags, seconds, ask=ask)


def _report(outcome: Outcome, verdicts: dict[Address, Verdict], *, wait: bool, json: bool) -> int:
    if json:
        emit(_document(outcome, verdicts))
    elif not wait:
        _list(outcome, briefly=False)
    for address, verdict in verdicts.items():
        if not json:
            show_verdict(address, verdict)
    return 1 if outcome.failed else worst(verdicts.values())


def _list(outcome: Outcome, *, briefly: bool) -> None:
    if not briefly and (len(outcome.stored) <= LISTED or not is_terminal()):
        for address, one in outcome.stored.items():
            say(f"{address}  {human_bytes(one.size)}")
    for _, reason in outcome.failed:
        note(f"penstock: put: {reason}", style="red")
    note(outcome.summary())


def _document(outcome: Outcome, verdicts: dict[Address, Any]) -> dict[str, Any]:
    objects = [
        {
            "bucket": address.bucket,
            "key": address.key,
            "url": str(address),
            "etag": one.etag,
            "size": one.size,
        }
        | ({"digest": verdict_document(address, verdicts[address])} if address in verdicts else {})
        for address, one in outcome.stored.items()
    ]
    failed = [{"file": path, "error": reason} for path, reason in outcome.failed]
    seconds = round(time.monotonic() - outcome.started, 3)
    return {"objects": objects, "failed": failed, "bytes": outcome.size, "seconds": seconds}

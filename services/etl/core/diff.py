"""Find objects that differ from their known state, and group them into work."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from services.etl.core.datasets import item_of
from services.etl.core.values import FileToLoad, KnownObject


def needs_work(file: FileToLoad, known: KnownObject) -> bool:
    """Return whether to fetch an object: a newer change, another version in a listing, or a failed last load."""
    if file.revision:
        return file.revision > known.revision
    return bool(known.failure) or (file.etag, file.stored_at) != (known.etag, known.stored_at)


def needs_republish(file: FileToLoad, known: KnownObject) -> bool:
    """Return whether this change or load is the one already stored: its fact may be unpublished after a crash."""
    if file.revision:
        return file.revision == known.revision
    return not needs_work(file, known) and file.correlation_id == known.correlation_id


def latest_changes(files: Iterable[FileToLoad]) -> list[FileToLoad]:
    """Return the latest change of each object."""
    latest: dict[tuple[str, str], FileToLoad] = {}
    for file in files:
        known = latest.get(file.object_key)
        if known is None or file.revision >= known.revision:
            latest[file.object_key] = file
    return list(latest.values())


def is_large(file: FileToLoad, large_bytes: int) -> bool:
    """Return whether a file is loaded as its own work item; images never are, because only their head is read."""
    return file.kind == "rows" and (file.size or 0) > large_bytes


def truncate_to_second(time: datetime) -> datetime:
    """Drop the microseconds: listings have them, HEAD and GET responses do not."""
    return time.replace(microsecond=0)


def batches(files: Sequence[FileToLoad], *, max_objects: int, max_bytes: int) -> Iterator[list[FileToLoad]]:
    """Group files into batches of one dataset that fit in memory."""
    batch: list[FileToLoad] = []
    size = 0
    for file in sorted(files, key=lambda file: file.dataset.name):
        is_other = bool(batch) and batch[0].dataset is not file.dataset
        if batch and (is_other or len(batch) >= max_objects or size + _weight(file) > max_bytes):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += _weight(file)
    if batch:
        yield batch


def _weight(file: FileToLoad) -> int:
    """Return the bytes that an object holds in memory; the head of an image is released at once."""
    return (file.size or 0) if file.kind == "rows" else 0


def chunks(files: Sequence[FileToLoad], *, size: int, large_bytes: int) -> Iterator[list[FileToLoad]]:
    """Split files into chunks of about `size` objects; a large file is its own chunk, an item stays in one chunk."""
    chunk: list[FileToLoad] = []
    for file in files:
        if is_large(file, large_bytes):
            yield [file]
            continue
        if len(chunk) >= size and item_of(chunk[-1].key) != item_of(file.key):
            yield chunk
            chunk = []
        chunk.append(file)
    if chunk:
        yield chunk

"""What differs between a bucket and what is known of it, and how much of that is one piece of work."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from services.etl.core.datasets import item_of
from services.etl.core.values import FileToLoad, KnownObject


def needs_work(file: FileToLoad, known: KnownObject) -> bool:
    """Say whether an object has to be looked at: a later change than the known one, or another version in a listing.

    One that could not be loaded has to be, too.
    """
    if file.revision:
        return file.revision > known.revision
    return bool(known.failure) or (file.etag, file.stored_at) != (known.etag, known.stored_at)


def needs_republish(file: FileToLoad, known: KnownObject) -> bool:
    """Say whether what is known came of just this: its fact may not have been published before a crash."""
    if file.revision:
        return file.revision == known.revision
    return not needs_work(file, known) and file.correlation_id == known.correlation_id


def latest_changes(files: Iterable[FileToLoad]) -> list[FileToLoad]:
    """Keep of each place the latest change."""
    latest: dict[tuple[str, str], FileToLoad] = {}
    for file in files:
        known = latest.get(file.object_key)
        if known is None or file.revision >= known.revision:
            latest[file.object_key] = file
    return list(latest.values())


def is_large(file: FileToLoad, large_bytes: int) -> bool:
    """Say whether a file takes so long that it has to be work of its own; of an image only the beginning is read."""
    return file.kind == "rows" and (file.size or 0) > large_bytes


def truncate_to_second(time: datetime) -> datetime:
    """Cut a time as the store's answers about one object do; its listings are more exact."""
    return time.replace(microsecond=0)


def batches(files: Sequence[FileToLoad], *, max_objects: int, max_bytes: int) -> Iterator[list[FileToLoad]]:
    """Cut what is wanted into what may be in memory at once, each of one dataset."""
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
    """Return the bytes that are held of an object; an image's beginning is let go at once."""
    return (file.size or 0) if file.kind == "rows" else 0


def chunks(files: Sequence[FileToLoad], *, size: int, large_bytes: int) -> Iterator[list[FileToLoad]]:
    """Cut what differs into pieces of work of about `size` objects; each large file is one, and no item is cut."""
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

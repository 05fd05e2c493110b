"""What differs between a bucket and what is known of it, and how much of that is one piece of work."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from services.etl.core.datasets import item_of
from services.etl.core.values import Known, Wanted


def is_news(wanted: Wanted, known: Known) -> bool:
    """Say whether an object has to be looked at: a later change than the known one, or another version in a listing.

    One that could not be loaded has to be, too.
    """
    if wanted.revision:
        return wanted.revision > known.revision
    return bool(known.failure) or (wanted.etag, wanted.stored_at) != (known.etag, known.stored_at)


def is_told_again(wanted: Wanted, known: Known) -> bool:
    """Say whether what is known came of just this: its fact may not have been published before a crash."""
    if wanted.revision:
        return wanted.revision == known.revision
    return not is_news(wanted, known) and wanted.correlation_id == known.correlation_id


def newest(wanted: Iterable[Wanted]) -> list[Wanted]:
    """Keep of each place the latest change."""
    latest: dict[tuple[str, str], Wanted] = {}
    for one in wanted:
        mine = latest.get(one.place)
        if mine is None or one.revision >= mine.revision:
            latest[one.place] = one
    return list(latest.values())


def is_large(one: Wanted, large_bytes: int) -> bool:
    """Say whether a file takes so long that it has to be work of its own; of an image only the beginning is read."""
    return one.kind == "rows" and (one.size or 0) > large_bytes


def to_the_second(time: datetime) -> datetime:
    """Cut a time as the store's answers about one object do; its listings are more exact."""
    return time.replace(microsecond=0)


def bunches(wanted: Sequence[Wanted], *, most: int, most_bytes: int) -> Iterator[list[Wanted]]:
    """Cut what is wanted into what may be in memory at once, each of one dataset."""
    bunch: list[Wanted] = []
    held = 0
    for one in sorted(wanted, key=lambda one: one.dataset.name):
        is_other = bool(bunch) and bunch[0].dataset is not one.dataset
        if bunch and (is_other or len(bunch) >= most or held + _weight(one) > most_bytes):
            yield bunch
            bunch, held = [], 0
        bunch.append(one)
        held += _weight(one)
    if bunch:
        yield bunch


def _weight(one: Wanted) -> int:
    """Return the bytes that are held of an object; an image's beginning is let go at once."""
    return (one.size or 0) if one.kind == "rows" else 0


def slices(wanted: Sequence[Wanted], *, size: int, large_bytes: int) -> Iterator[list[Wanted]]:
    """Cut what differs into pieces of work of about `size` objects; each large file is one, and no item is cut."""
    piece: list[Wanted] = []
    for one in wanted:
        if is_large(one, large_bytes):
            yield [one]
            continue
        if len(piece) >= size and item_of(piece[-1].key) != item_of(one.key):
            yield piece
            piece = []
        piece.append(one)
    if piece:
        yield piece

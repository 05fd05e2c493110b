"""The tables of docs/architecture.md, written from the manifests: `python -m deploy.architecture_tables`."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from services import catalogue
from shared.manifest import SHARED_VIEWS, Manifest, Manifests
from shared.topics import Topic

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "architecture.md"

_MARKED: Final = re.compile(r"(<!-- (services|topics|views|alarms) -->\n).*?(<!-- end of \2 -->)", re.DOTALL)
_EVERYTHING: Final = "every fact and every dead letter"
_OPERATOR: Final = "any topic, for `penstock watch`"


def tables(manifests: Manifests) -> dict[str, str]:
    """Return each table as Markdown, by the name that its markers have on the page."""
    return {
        "services": _services(manifests),
        "topics": _table(
            ("Topic", "Key", "Partitions", "Says"),
            ((f"`{one.name}`", one.key, str(one.partitions), one.about) for one in manifests.topics),
        ),
        "views": _table(("View", "One row for", "Owner"), _views(manifests)),
        "alarms": _table(
            ("Metric", "Service", "Alarm when"),
            ((f"`{metric}`", one.name, text) for one in manifests.values() for metric, text in one.alarms.items()),
        ),
    }


def _services(manifests: Manifests) -> str:
    rows = (
        (f"`{one.name}`", _consumed(one), _named(kind.topic for kind in one.publishes), one.stores or "nothing")
        for one in manifests.values()
    )
    return _table(("Service", "Consumes", "Publishes", "Stores"), rows)


def _consumed(manifest: Manifest) -> str:
    if manifest.is_operator:
        return _OPERATOR
    return ", ".join(filter(None, (_named(manifest.consumes), _EVERYTHING if manifest.consumes_all_facts else "")))


def _named(topics: Iterable[Topic]) -> str:
    return ", ".join(f"`{topic.name}`" for topic in topics)


def _views(manifests: Manifests) -> Iterable[tuple[str, str, str]]:
    for one in manifests.values():
        yield from _views_of(one.views, one.name)
        if one.made_views:
            yield "one for each dataset, such as `api.users`", one.made_views, one.name
    yield from _views_of(SHARED_VIEWS, "shared")


def _views_of(views: Mapping[str, str], owner: str) -> Iterable[tuple[str, str, str]]:
    return ((f"`api.{name}`", text, owner) for name, text in views.items())


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(line)} |" for line in (heads, *rows)]
    return "\n".join((lines[0], "|---" * len(heads) + "|", *lines[1:], ""))


def written(page: str, manifests: Manifests) -> str:
    """Return `page` with fresh tables."""
    fresh = tables(manifests)
    return _MARKED.sub(lambda found: f"{found[1]}\n{fresh[found[2]]}\n{found[3]}", page)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(), catalogue.manifests()))

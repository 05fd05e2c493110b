"""Render HTML pages from Jinja templates with autoescaping."""

from datetime import UTC, datetime
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from services.ingress.adapters.assets import asset
from services.ingress.core.display import short, size_text


@cache
def environment() -> Environment:
    """Return what the templates are read with."""
    made = Environment(
        loader=PackageLoader("services.ingress"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(bytes=size_text, short=short, time=time_tag)
    made.globals.update(asset=asset)
    return made


def render_template(name: str, **values: Any) -> str:
    """Return the page `name`."""
    return environment().get_template(name).render(**values)


def time_tag(at: datetime | None) -> Markup:
    """Show a time in UTC; the page's script shows it by the reader's clock."""
    if at is None:
        return Markup("")
    utc = at.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(f"{utc:%Y-%m-%dT%H:%M:%SZ}", f"{utc:%Y-%m-%d %H:%M:%S} UTC")

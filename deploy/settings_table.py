"""The tables of docs/settings.md, written from the settings models: `python -m deploy.settings_table`."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from services import catalogue
from shared.environment import PREFIX
from shared.settings import Settings

CHECKOUT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = CHECKOUT / "docs" / "settings.md"
_TABLES: Final = re.compile(r"(?<=<!-- tables -->\n).*(?=<!-- end of tables -->)", re.DOTALL)


def models() -> dict[str, type[Settings]]:
    """Return every settings model by its heading: what all services share first, then each service's own."""
    own = sorted(path.parent.name for path in CHECKOUT.glob("services/*/settings.py"))
    return {"Every service": Settings, **{name: catalogue.settings_of(name) for name in own}}


def variables(model: type[Settings]) -> dict[str, tuple[str, str]]:
    """Return default and description of the variables that `model` itself declares, by name.

    A field that holds a dict is filled from several variables; the page describes those outside the tables.
    """
    own = vars(model)["__annotations__"]
    return {
        PREFIX + name.upper(): (_shown(field.get_default(call_default_factory=True)), field.description or "")
        for name, field in model.model_fields.items()
        if name in own and field.default_factory is not dict
    }


def _shown(default: Any) -> str:
    match default:
        case SecretStr():
            text = default.get_secret_value()
        case None:
            text = ""
        case bool():
            text = str(default).lower()
        case tuple():
            text = " ".join(default)
        case Path():
            text = str(default).replace(f"{CHECKOUT}/", "").replace(str(Path.home()), "~")
        case _:
            text = str(default)
    return f"`{text}`" if text else ""


def tables() -> str:
    """Return all tables as Markdown."""
    return "\n".join("\n".join(_table(heading, model)) + "\n" for heading, model in models().items())


def _table(heading: str, model: type[Settings]) -> Iterator[str]:
    yield from (f"### {heading}", "", "| Variable | Default | Meaning |", "|---|---|---|")
    for name, (default, text) in variables(model).items():
        yield f"| `{name}` | {default} | {text} |".replace("|  |", "| |")


def written(page: str) -> str:
    """Return `page` with fresh tables."""
    return _TABLES.sub(lambda _: f"\n{tables()}\n", page)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))

"""Which services there are on the bus, and how any of them is built."""

import importlib
from pathlib import Path
from typing import Any, Final

from shared.service import Service
from shared.settings import Settings

FOLDER: Final = Path(__file__).parent


def names() -> tuple[str, ...]:
    """Return the services that consume from the bus: those with handlers; a console or a page has none."""
    return tuple(sorted(path.parent.name for path in FOLDER.glob("*/handlers.py")))


def settings_of(name: str) -> type[Settings]:
    """Return the settings model of a service."""
    module = importlib.import_module(f"services.{name}.settings")
    own = (kind for kind in vars(module).values() if isinstance(kind, type) and kind.__module__ == module.__name__)
    return next(kind for kind in own if issubclass(kind, Settings))


def build(name: str, **settings: Any) -> Service:
    """Wire a service; `settings` win over the environment, and nothing connects."""
    app = importlib.import_module(f"services.{name}.app")
    service: Service = app.build_app(settings_of(name)(**settings))
    return service

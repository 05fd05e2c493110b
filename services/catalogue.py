"""Finds the services by their folders: their manifests, their settings, and how each is built."""

import importlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from shared.errors import PenstockError
from shared.manifest import Manifest, Manifests
from shared.settings import Settings

if TYPE_CHECKING:
    from shared.service import Service

FOLDER: Final = Path(__file__).parent


@cache
def manifests() -> Manifests:
    """Return the manifests of all services: of each folder with a `manifest.py`."""
    return Manifests(_manifest_of(path.parent.name) for path in FOLDER.glob("*/manifest.py"))


def _manifest_of(folder: str) -> Manifest:
    manifest: Manifest = importlib.import_module(f"services.{folder}.manifest").MANIFEST
    if manifest.name != folder:
        raise PenstockError(f"services/{folder}/manifest.py names {manifest.name!r}: name it after its folder")
    return manifest


def names() -> tuple[str, ...]:
    """Return the services that run in a stack; the console does not."""
    return tuple(one.name for one in manifests().services)


def settings_of(name: str) -> type[Settings]:
    """Return the settings model of a service."""
    module = importlib.import_module(f"services.{name}.settings")
    own = (kind for kind in vars(module).values() if isinstance(kind, type) and kind.__module__ == module.__name__)
    return next(kind for kind in own if issubclass(kind, Settings))


def build(name: str, **settings: Any) -> "Service":
    """Wire a service; `settings` win over the environment, and nothing connects."""
    app = importlib.import_module(f"services.{name}.app")
    service: Service = app.build_app(settings_of(name)(**settings))
    return service

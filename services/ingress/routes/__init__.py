"""The routes, one small file per contract; each file that has a `router` is part of the ingress."""

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType

from fastapi import APIRouter

from services.ingress.core.navigation import NavigationEntry, ordered


def found() -> Iterator[APIRouter]:
    """Yield the router of every module here, ordered by module name."""
    for module in _modules():
        router = getattr(module, "router", None)
        if isinstance(router, APIRouter):
            yield router


def navigation() -> tuple[NavigationEntry, ...]:
    """Return the links to the pages of every module here that has some."""
    return ordered(entry for module in _modules() for entry in getattr(module, "NAVIGATION", ()))


def _modules() -> Iterator[ModuleType]:
    for module in pkgutil.iter_modules(__path__):
        yield importlib.import_module(f"{__name__}.{module.name}")

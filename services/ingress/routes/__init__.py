"""The routes, one small file per contract; each file that has a `router` is part of the ingress."""

import importlib
import pkgutil
from collections.abc import Iterator

from fastapi import APIRouter


def found() -> Iterator[APIRouter]:
    """Give the router of every module here, in the order of their names."""
    for module in pkgutil.iter_modules(__path__):
        router = getattr(importlib.import_module(f"{__name__}.{module.name}"), "router", None)
        if isinstance(router, APIRouter):
            yield router

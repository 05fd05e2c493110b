"""The OpenAPI document with problem responses and security schemes."""

from typing import Any, Final

from fastapi import FastAPI

from services.ingress.core.problems import MEDIA_TYPE
from services.ingress.routes.auth_middleware import is_public_path

PROBLEM: Final = {
    "type": "object",
    "description": "What went wrong (RFC 9457): thing, reason and mend in `detail`; `code` stays as it is.",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
    },
}
PROBLEM_ANSWER: Final = {
    "description": "A problem.",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
SECURITY_SCHEMES: Final = {
    "token": {"type": "http", "scheme": "bearer", "description": "A token."},
    "basic": {"type": "http", "scheme": "basic", "description": "A token as the password, for programs alone."},
    "tokenInAddress": {"type": "apiKey", "in": "query", "name": "token", "description": "The same, for old clients."},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "penstock_session",
        "description": "A browser that was logged in; changes bring `x-csrf-token` too.",
    },
}
_REPLACED_SCHEMAS: Final = ("HTTPValidationError", "ValidationError")


class Application(FastAPI):
    """FastAPI with our error and security declarations in its document."""

    def openapi(self) -> dict[str, Any]:
        """Return the document, made once."""
        if self.openapi_schema is None:
            self.openapi_schema = _with_problems_and_security(super().openapi())
        return self.openapi_schema


def _with_problems_and_security(found: dict[str, Any]) -> dict[str, Any]:
    for path, operations in found["paths"].items():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = PROBLEM_ANSWER
            if is_public_path(path):
                operation["security"] = []
    components = found.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in _REPLACED_SCHEMAS:
        schemas.pop(name, None)
    schemas["Problem"] = PROBLEM
    components["securitySchemes"] = SECURITY_SCHEMES
    found["security"] = [{name: []} for name in SECURITY_SCHEMES]
    return found

"""The OpenAPI document of the ingress: `python -m services.openapi` writes it, `--check` compares it."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from services.generated import write_or_check
from services.ingress.app import build_http

DOCUMENT: Final = Path(__file__).parents[1] / "deploy" / "openapi.yaml"


class _Plain(yaml.SafeDumper):
    """YAML without anchors: what stands twice is written twice."""

    def ignore_aliases(self, _data: Any) -> bool:
        """Write it anew."""
        return True


def document() -> str:
    """Return the document as YAML: the same code gives the same text, whatever the environment says."""
    found: dict[str, Any] = build_http().openapi()
    found["paths"] = dict(sorted(found["paths"].items()))
    text: str = yaml.dump(found, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120)
    return text


def main(arguments: Sequence[str]) -> int:
    """Write the document, or with `--check` only compare it; return the exit code, 1 for a stale one."""
    return write_or_check(DOCUMENT, document(), "python -m services.openapi", arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Filters for facts, and which facts a principal may see."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from typing import Final

from services.ingress.core.access import Principal
from services.ingress.core.facts import TYPE_PREFIX, Fact
from shared.errors import Rejected

MAX_TYPES: Final = 50
MAX_PATTERN: Final = 200


@dataclass(frozen=True, slots=True)
class FactFilter:
    """A choice of facts; what is left empty chooses all. `types` are names or patterns such as `objects.*`."""

    types: tuple[str, ...] = ()
    bucket: str = ""
    prefix: str = ""
    correlation_id: str = ""

    def matches(self, fact: Fact) -> bool:
        """Return whether the filter matches `fact`."""
        return (
            (not self.types or _pattern_of(self.types).match(fact.type) is not None)
            and (not self.bucket or fact.bucket == self.bucket)
            and (not self.prefix or (fact.key or "").startswith(self.prefix))
            and (not self.correlation_id or fact.correlation_id == self.correlation_id)
        )


@lru_cache(maxsize=512)
def _pattern_of(types: tuple[str, ...]) -> re.Pattern[str]:
    """Return one pattern for all types: a stream matches each fact once, and the cache stays small."""
    return re.compile("|".join(translate(one) for one in types))


def parse_types(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the patterns of types, given one by one or separated by commas, with or without the CloudEvents prefix.

    `*` is the only wildcard; brackets match literally. Raises Rejected (TOO_MANY_TYPES).
    """
    words = (word.strip() for text in texts for word in text.split(","))
    plain = tuple(dict.fromkeys(word.removeprefix(TYPE_PREFIX).replace("[", "[[]") for word in words if word))
    if len(plain) > MAX_TYPES or any(len(one) > MAX_PATTERN for one in plain):
        raise Rejected(
            "TOO_MANY_TYPES",
            f"`type` names {len(plain)} types: name up to {MAX_TYPES}, each in up to {MAX_PATTERN} characters",
        )
    return plain


def is_visible_to(principal: Principal, fact: Fact) -> bool:
    """Return whether `principal` may see a fact; facts about no object need access to everything."""
    if fact.bucket is None or fact.key is None:
        return not principal.prefixes
    return principal.sees(fact.bucket, fact.key)

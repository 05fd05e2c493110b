"""Which facts somebody wants, and may, hear of."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from services.ingress.core.access import Principal
from services.ingress.core.facts import PREFIX, Fact

MAX_TYPES: Final = 50
MAX_PATTERN: Final = 200


@dataclass(frozen=True, slots=True)
class Wanted:
    """A choice of facts; what is left empty chooses all. `types` are names or patterns such as `objects.*`."""

    types: tuple[str, ...] = ()
    bucket: str = ""
    prefix: str = ""
    correlation_id: str = ""

    def takes(self, fact: Fact) -> bool:
        """Tell whether `fact` is chosen."""
        return (
            (not self.types or any(fnmatchcase(fact.type, pattern) for pattern in self.types))
            and (not self.bucket or fact.bucket == self.bucket)
            and (not self.prefix or (fact.key or "").startswith(self.prefix))
            and (not self.correlation_id or fact.correlation_id == self.correlation_id)
        )


def types_in(texts: Iterable[str]) -> tuple[str, ...]:
    """Return patterns of types, given one by one or apart by commas; CloudEvents' full names are known too.

    A star is a star and nothing else is: what the shell calls a set is taken as it is written.
    """
    words = (word.strip() for text in texts for word in text.split(","))
    plain = dict.fromkeys(word.removeprefix(PREFIX).replace("[", "[[]")[:MAX_PATTERN] for word in words if word)
    return tuple(plain)[:MAX_TYPES]


def shown_to(who: Principal, fact: Fact) -> bool:
    """Tell whether `who` may see a fact: those about no object are for who sees everything."""
    if fact.bucket is None or fact.key is None:
        return not who.places
    return who.sees(fact.bucket, fact.key)

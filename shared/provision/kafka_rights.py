"""What each user may do in Kafka: the least that it needs, computed from who reads and who publishes what.

READ and WRITE imply DESCRIBE, and WRITE on any topic the idempotent producer (KIP-679), so neither is listed.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from shared.provision.users import user_name
from shared.topics import CONSUMERS, OBSERVERS, PRODUCERS, dead_letter_topics_of

USERS: Final = tuple(sorted({*CONSUMERS, *PRODUCERS}))
"""The services, and the object store; each logs in as `penstock-<name>`."""


class Resource(IntEnum):
    """Kinds of things an ACL is about, by their numbers on the wire (KIP-140)."""

    TOPIC = 2
    GROUP = 3


class Operation(IntEnum):
    """What an ACL allows, by its number on the wire (KIP-140)."""

    READ = 3
    WRITE = 4
    DESCRIBE = 8


@dataclass(frozen=True, order=True, slots=True)
class Right:
    """Leave for `user` to do one operation on one thing, by its full name."""

    user: str
    resource: Resource
    name: str
    operation: Operation


def rights_of(name: str) -> frozenset[Right]:
    """Return all that the service `name` may do: read its topics in its group, publish, and put records aside."""
    user, reads = user_name(name), CONSUMERS.get(name, ())
    writes = (*PRODUCERS.get(name, ()), *dead_letter_topics_of({name: reads}))
    groups = {name} if reads else set()
    return frozenset(
        {
            *(Right(user, Resource.TOPIC, topic.name, Operation.READ) for topic in reads),
            *(Right(user, Resource.TOPIC, topic.name, Operation.WRITE) for topic in writes),
            *(Right(user, Resource.GROUP, group, Operation.READ) for group in groups),
            *(_rights_of_observer(user) if name in OBSERVERS else ()),
        }
    )


def _rights_of_observer(user: str) -> set[Right]:
    """Return what asking for every group's lag needs: to see topics and groups, not their records."""
    topics = {topic.name for read in CONSUMERS.values() for topic in read}
    return {
        *(Right(user, Resource.TOPIC, topic, Operation.DESCRIBE) for topic in topics),
        *(Right(user, Resource.GROUP, group, Operation.DESCRIBE) for group in CONSUMERS),
    }


def all_rights() -> frozenset[Right]:
    """Return what all users may do."""
    return frozenset(right for name in USERS for right in rights_of(name))

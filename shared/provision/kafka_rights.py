"""The least rights of each Kafka user, computed from the topics that services read and publish.

READ and WRITE imply DESCRIBE, and WRITE on any topic the idempotent producer (KIP-679), so neither is listed.
"""

from dataclasses import dataclass
from enum import IntEnum

from shared.manifest import Manifests
from shared.provision.users import user_name
from shared.topics import dead_letter_topics_of


class Resource(IntEnum):
    """Resource types of ACLs, by their protocol codes (KIP-140)."""

    TOPIC = 2
    GROUP = 3


class Operation(IntEnum):
    """Operations of ACLs, by their protocol codes (KIP-140)."""

    READ = 3
    WRITE = 4
    DESCRIBE = 8


@dataclass(frozen=True, order=True, slots=True)
class Right:
    """The right of `user` to one operation on one resource with a literal name."""

    user: str
    resource: Resource
    name: str
    operation: Operation


def rights_of(manifests: Manifests, name: str) -> frozenset[Right]:
    """Return the rights of user `name`: read its topics in its group, publish, and dead-letter records."""
    user, reads = user_name(name), manifests.consumers.get(name, ())
    writes = (*manifests.producers.get(name, ()), *dead_letter_topics_of({name: reads}))
    groups = {name} if reads else set()
    return frozenset(
        {
            *(Right(user, Resource.TOPIC, topic.name, Operation.READ) for topic in reads),
            *(Right(user, Resource.TOPIC, topic.name, Operation.WRITE) for topic in writes),
            *(Right(user, Resource.GROUP, group, Operation.READ) for group in groups),
            *(_rights_of_observer(manifests, user) if name in manifests.observers else ()),
        }
    )


def _rights_of_observer(manifests: Manifests, user: str) -> set[Right]:
    """Return the rights to query the lag of all groups: DESCRIBE topics and groups, without READ."""
    topics = {topic.name for read in manifests.consumers.values() for topic in read}
    return {
        *(Right(user, Resource.TOPIC, topic, Operation.DESCRIBE) for topic in topics),
        *(Right(user, Resource.GROUP, group, Operation.DESCRIBE) for group in manifests.consumers),
    }


def all_rights(manifests: Manifests) -> frozenset[Right]:
    """Return the rights of all users."""
    return frozenset(right for name in manifests.kafka_users for right in rights_of(manifests, name))

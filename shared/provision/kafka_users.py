"""Set Kafka users and their ACLs to those of `kafka_rights`; leave other users unchanged."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from typing import Any, Final, NamedTuple

from aiokafka.errors import IncompatibleBrokerVersion, SecurityDisabled, for_code
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest
from pydantic import SecretStr

from shared.kafka import KafkaRefused, check_access
from shared.manifest import Manifests
from shared.provision.kafka_requests import MECHANISMS, AlterCredentials, Credential, DescribeCredentials
from shared.provision.kafka_rights import Operation, Resource, Right, all_rights
from shared.provision.topics import open_admin
from shared.provision.users import user_name
from shared.settings import Settings

USER_PREFIX: Final = user_name("")
"""Prefix of the users whose rights and passwords set-up manages."""
_PRINCIPAL: Final = "User:"
_ANY, _LITERAL, _ALLOW = 1, 3, 3


async def ensure_kafka_users(settings: Settings, manifests: Manifests, passwords: Mapping[str, SecretStr]) -> list[str]:
    """Set the ACLs of all users, and the passwords in `passwords`; return the changes. Does nothing without a login.

    An operator who logs in by PLAIN, from the broker's JAAS file, gets the same password for SCRAM.

    Raises:
        Outage: Kafka does not answer.
        Rejected: ACCESS_DENIED if the user of `settings` is not the operator.

    """
    if not settings.kafka_user:
        return []
    credentials = {user_name(name): passwords[name] for name in manifests.kafka_users if name in passwords}
    if settings.kafka_mechanism not in MECHANISMS:
        credentials[settings.kafka_user] = settings.kafka_password
    async with open_admin(settings) as admin:
        try:
            # rights first: a user with only a password could do nothing
            return [
                *await _ensure_rights(admin, manifests, settings.kafka_user),
                *await _ensure_passwords(admin, settings, manifests, credentials),
            ]
        except (SecurityDisabled, IncompatibleBrokerVersion) as error:
            names = ", ".join(map(user_name, manifests.kafka_users))
            return [f"Kafka users: {error}; set the passwords and ACLs of {names} with the broker's own tools"]


async def set_password(settings: Settings, user: str, password: SecretStr, mechanism: str) -> None:
    """Set one user's SCRAM password."""
    async with open_admin(settings) as admin:
        await _alter(admin, [Credential.of(user, password.get_secret_value(), mechanism)], [])


def _mechanism(settings: Settings) -> str:
    """Return the mechanism for new credentials: the operator's own if that is SCRAM."""
    return settings.kafka_mechanism if settings.kafka_mechanism in MECHANISMS else "SCRAM-SHA-512"


async def _ensure_passwords(
    admin: Any, settings: Settings, manifests: Manifests, passwords: Mapping[str, SecretStr]
) -> list[str]:
    answer = await _ask(admin, DescribeCredentials())
    _raise_for(answer.error_code, str(answer.error_message))
    existing = {(user, mechanism) for user, _, _, found, _ in answer.results for mechanism, _, _ in found}
    names = {number: name for name, number in MECHANISMS.items()}
    ours = {user_name(name) for name in manifests.kafka_users}
    stale = [
        (user, names[mechanism])
        for user, mechanism in sorted(existing)
        if user.startswith(USER_PREFIX) and user not in {*ours, settings.kafka_user}
    ]
    changed = [user for user in passwords if not await accepts_password(settings, user, passwords[user])]
    credentials = [Credential.of(user, passwords[user].get_secret_value(), _mechanism(settings)) for user in changed]
    await _alter(admin, credentials, stale)
    return [
        *(f"Kafka user {user}: password set" for user in changed),
        *(f"Kafka user {user}: removed" for user, _ in stale),
    ]


async def accepts_password(settings: Settings, user: str, password: SecretStr) -> bool:
    """Return whether Kafka accepts this login; it does not return passwords to compare."""
    login = {"kafka_user": user, "kafka_password": password, "kafka_mechanism": _mechanism(settings)}
    try:
        await check_access(settings.model_copy(update=login))
    except KafkaRefused:
        return False
    return True


async def _alter(admin: Any, credentials: list[Credential], stale: list[tuple[str, str]]) -> None:
    if credentials or stale:
        answer = await _ask(admin, AlterCredentials(credentials, stale))
        for user, code, text, _ in answer.results:
            _raise_for(code, f"user {user}: {text}")


async def _ensure_rights(admin: Any, manifests: Manifests, operator: str) -> list[str]:
    existing, desired = await _acls(admin), {_acl(right) for right in all_rights(manifests)}
    stale = [acl for acl in existing - desired if acl.is_ours and acl.principal != _PRINCIPAL + operator]
    missing = desired - existing
    for acl, answer in await _send_for_each(admin, CreateAclsRequest, missing):
        _raise_for(answer.creation_responses[0][0], f"{acl}: {answer.creation_responses[0][1]}")
    for acl, answer in await _send_for_each(admin, DeleteAclsRequest, stale):
        _raise_for(answer.filter_responses[0][0], f"{acl}: {answer.filter_responses[0][1]}")
    return [*_lines("granted", missing), *_lines("revoked", stale)]


class Acl(NamedTuple):
    """An access control entry, its fields in the order of Kafka's requests."""

    resource: int
    name: str
    pattern: int
    principal: str
    host: str
    operation: int
    permission: int

    @property
    def is_ours(self) -> bool:
        """Whether the ACL belongs to one of Penstock's users."""
        return self.principal.startswith(_PRINCIPAL + USER_PREFIX)

    def __str__(self) -> str:
        return f"{_word(Operation, self.operation)} {_word(Resource, self.resource)} {self.name}"


def _word(numbers: type[IntEnum], number: int) -> str:
    return numbers(number).name.lower() if number in set(numbers) else f"{numbers.__name__.lower()} {number}"


def _acl(right: Right) -> Acl:
    return Acl(right.resource, right.name, _LITERAL, _PRINCIPAL + right.user, "*", right.operation, _ALLOW)


async def _acls(admin: Any) -> set[Acl]:
    answer = await _ask(admin, DescribeAclsRequest(_ANY, None, _ANY, None, None, _ANY, _ANY))  # type: ignore[arg-type]
    _raise_for(answer.error_code, str(answer.error_message))
    return {Acl(kind, name, pattern, *entry) for kind, name, pattern, entries in answer.resources for entry in entries}


async def _send_for_each(admin: Any, request: Callable[..., Any], acls: Iterable[Acl]) -> list[tuple[Acl, Any]]:
    """Send one request per ACL; return each ACL with its answer."""
    ordered = sorted(acls)
    answers = await asyncio.gather(*(_ask(admin, request(*acl)) for acl in ordered))
    return list(zip(ordered, answers, strict=True))


def _lines(action: str, acls: Iterable[Acl]) -> list[str]:
    by_user: dict[str, list[str]] = {}
    for acl in sorted(acls):
        by_user.setdefault(acl.principal.removeprefix(_PRINCIPAL), []).append(str(acl))
    return [f"Kafka user {user}: {action} {', '.join(some)}" for user, some in sorted(by_user.items())]


async def _ask(admin: Any, request: Any) -> Any:
    return await admin._send_request(request)  # noqa: SLF001 - aiokafka's admin has no method for these requests


def _raise_for(code: int, text: str) -> None:
    if code:
        raise for_code(code)(text)

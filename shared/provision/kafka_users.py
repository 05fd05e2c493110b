"""Kafka's users and their ACLs, made equal to what `kafka_rights` computes; other users' stay untouched."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from typing import Any, Final, NamedTuple

from aiokafka.errors import IncompatibleBrokerVersion, SecurityDisabled, for_code
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest
from pydantic import SecretStr

from shared.kafka import KafkaRefused, check_access
from shared.provision.kafka_requests import MECHANISMS, AlterCredentials, Credential, DescribeCredentials
from shared.provision.kafka_rights import USERS, Operation, Resource, Right, all_rights
from shared.provision.topics import open_admin
from shared.provision.users import user_name
from shared.settings import Settings

USER_PREFIX: Final = user_name("")
"""How the names of users begin whose rights and passwords are ours to change."""
_PRINCIPAL: Final = "User:"
_ANY, _LITERAL, _ALLOW = 1, 3, 3


async def ensure_kafka_users(settings: Settings, passwords: Mapping[str, SecretStr]) -> list[str]:
    """Set the ACLs of all users, and the passwords of those that `passwords` names; nothing where nobody logs in.

    An operator who logs in by PLAIN, as the broker's own file allows, gets the same password for SCRAM.

    Raises:
        Outage: Kafka does not answer.
        Rejected: ACCESS_DENIED when the user of `settings` is not the operator.

    """
    if not settings.kafka_user:
        return []
    wanted = {user_name(name): passwords[name] for name in USERS if name in passwords}
    if settings.kafka_mechanism not in MECHANISMS:
        wanted[settings.kafka_user] = settings.kafka_password
    async with open_admin(settings) as admin:
        try:
            # rights first: with its password alone a user has none
            return [
                *await _ensure_rights(admin, settings.kafka_user),
                *await _ensure_passwords(admin, settings, wanted),
            ]
        except (SecurityDisabled, IncompatibleBrokerVersion) as error:
            names = ", ".join(map(user_name, USERS))
            return [f"Kafka users: {error}; give {names} their passwords and ACLs by the broker's own means"]


async def set_password(settings: Settings, user: str, password: SecretStr, mechanism: str) -> None:
    """Set one user's SCRAM password, whatever it was."""
    async with open_admin(settings) as admin:
        await _alter(admin, [Credential.of(user, password.get_secret_value(), mechanism)], [])


def _mechanism(settings: Settings) -> str:
    """Return the mechanism that users are given: the operator's own, where that is SCRAM."""
    return settings.kafka_mechanism if settings.kafka_mechanism in MECHANISMS else "SCRAM-SHA-512"


async def _ensure_passwords(admin: Any, settings: Settings, wanted: Mapping[str, SecretStr]) -> list[str]:
    answer = await _ask(admin, DescribeCredentials())
    _raise_for(answer.error_code, str(answer.error_message))
    known = {(user, mechanism) for user, _, _, held, _ in answer.results for mechanism, _, _ in held}
    names = {number: name for name, number in MECHANISMS.items()}
    ours = {user_name(name) for name in USERS}
    stale = [
        (user, names[mechanism])
        for user, mechanism in sorted(known)
        if user.startswith(USER_PREFIX) and user not in {*ours, settings.kafka_user}
    ]
    changed = [user for user in wanted if not await accepts_password(settings, user, wanted[user])]
    credentials = [Credential.of(user, wanted[user].get_secret_value(), _mechanism(settings)) for user in changed]
    await _alter(admin, credentials, stale)
    return [
        *(f"Kafka user {user}: password set" for user in changed),
        *(f"Kafka user {user}: removed" for user, _ in stale),
    ]


async def accepts_password(settings: Settings, user: str, password: SecretStr) -> bool:
    """Whether Kafka accepts this user with this password; it does not give passwords back to compare."""
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


async def _ensure_rights(admin: Any, operator: str) -> list[str]:
    there, wanted = await _acls(admin), {_acl(right) for right in all_rights()}
    stale = [acl for acl in there - wanted if acl.is_ours and acl.principal != _PRINCIPAL + operator]
    missing = wanted - there
    for acl, answer in await _of_each(admin, CreateAclsRequest, missing):
        _raise_for(answer.creation_responses[0][0], f"{acl}: {answer.creation_responses[0][1]}")
    for acl, answer in await _of_each(admin, DeleteAclsRequest, stale):
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
        """Whether it is about one of Penstock's users."""
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


async def _of_each(admin: Any, request: Callable[..., Any], acls: Iterable[Acl]) -> list[tuple[Acl, Any]]:
    """Send one request for each ACL, and return their answers."""
    listed = sorted(acls)
    answers = await asyncio.gather(*(_ask(admin, request(*acl)) for acl in listed))
    return list(zip(listed, answers, strict=True))


def _lines(done: str, acls: Iterable[Acl]) -> list[str]:
    by_user: dict[str, list[str]] = {}
    for acl in sorted(acls):
        by_user.setdefault(acl.principal.removeprefix(_PRINCIPAL), []).append(str(acl))
    return [f"Kafka user {user}: {done} {', '.join(some)}" for user, some in sorted(by_user.items())]


async def _ask(admin: Any, request: Any) -> Any:
    return await admin._send_request(request)  # noqa: SLF001 - aiokafka's admin has no method for these requests


def _raise_for(code: int, text: str) -> None:
    if code:
        raise for_code(code)(text)

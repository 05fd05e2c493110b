"""Kafka requests that aiokafka 0.14 lacks: describe and alter SCRAM credentials (KIP-554)."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    CompactArray,
    CompactBytes,
    CompactString,
    Int8,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

MECHANISMS: Final[Mapping[str, int]] = {"SCRAM-SHA-256": 1, "SCRAM-SHA-512": 2}
ITERATIONS: Final = 8192
"""PBKDF2 iterations; Kafka accepts 4,096 to 16,384."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A user's salted password for one mechanism, as Kafka stores it."""

    user: str
    mechanism: str
    salt: bytes
    salted: bytes

    @classmethod
    def of(cls, user: str, password: str, mechanism: str) -> "Credential":
        """Create a credential from a password, with a random salt (RFC 5802)."""
        salt = os.urandom(16)
        name = mechanism.removeprefix("SCRAM-").replace("-", "").lower()
        return cls(user, mechanism, salt, hashlib.pbkdf2_hmac(name, password.encode(), salt, ITERATIONS))


class DescribeCredentialsResponse(Response):
    """Users with their mechanisms and iterations, without salts and passwords."""

    API_KEY = 50
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("error_message", CompactString("utf-8")),
        (
            "results",
            CompactArray(
                ("user", CompactString("utf-8")),
                ("error_code", Int16),
                ("error_message", CompactString("utf-8")),
                ("credentials", CompactArray(("mechanism", Int8), ("iterations", Int32), ("tags", TaggedFields))),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class DescribeCredentialsV0(RequestStruct):
    """Lists credentials of the given users; null lists all."""

    API_KEY = 50
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = DescribeCredentialsResponse
    SCHEMA = Schema(
        ("users", CompactArray(("name", CompactString("utf-8")), ("tags", TaggedFields))), ("tags", TaggedFields)
    )


class AlterCredentialsResponse(Response):
    """The result for each user."""

    API_KEY = 51
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "results",
            CompactArray(
                ("user", CompactString("utf-8")),
                ("error_code", Int16),
                ("error_message", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class AlterCredentialsV0(RequestStruct):
    """Deletes and upserts credentials."""

    API_KEY = 51
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = AlterCredentialsResponse
    SCHEMA = Schema(
        (
            "deletions",
            CompactArray(("name", CompactString("utf-8")), ("mechanism", Int8), ("tags", TaggedFields)),
        ),
        (
            "upsertions",
            CompactArray(
                ("name", CompactString("utf-8")),
                ("mechanism", Int8),
                ("iterations", Int32),
                ("salt", CompactBytes),
                ("salted_password", CompactBytes),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


_Describe: TypeAlias = DescribeCredentialsV0
_Alter: TypeAlias = AlterCredentialsV0


class DescribeCredentials(Request[_Describe]):
    """List the SCRAM credentials of `users`, or of all users.

    Kafka 4.1 never answers a client that may not list all users.
    """

    API_KEY = 50

    def __init__(self, users: Sequence[str] | None = None) -> None:
        self._users: list[Any] | None = None if users is None else [(user, {}) for user in users]

    def build(self, request_struct_class: type[_Describe]) -> _Describe:
        """Return the request struct."""
        return request_struct_class(self._users, {})


class AlterCredentials(Request[_Alter]):
    """Set `credentials`, and delete the credentials of (user, mechanism) in `removed`."""

    API_KEY = 51

    def __init__(self, credentials: Sequence[Credential], removed: Sequence[tuple[str, str]] = ()) -> None:
        self._set: list[Any] = [
            (one.user, MECHANISMS[one.mechanism], ITERATIONS, one.salt, one.salted, {}) for one in credentials
        ]
        self._removed: list[Any] = [(user, MECHANISMS[mechanism], {}) for user, mechanism in removed]

    def build(self, request_struct_class: type[_Alter]) -> _Alter:
        """Return the request struct."""
        return request_struct_class(self._removed, self._set, {})

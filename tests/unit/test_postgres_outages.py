"""Classification of Postgres errors as outages."""

import asyncpg
import pytest
from asyncpg import exceptions

import shared.postgres  # noqa: F401 - importing it names the outages
from shared.errors import Kind, kind_of

OUTAGES = [
    exceptions.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
    exceptions.AdminShutdownError("terminating connection due to administrator command"),
    exceptions.CannotConnectNowError("the database system is starting up"),
    exceptions.TooManyConnectionsError("sorry, too many clients already"),
    exceptions.DiskFullError("could not extend file"),
    exceptions.SerializationError("could not serialize access"),
    exceptions.DeadlockDetectedError("deadlock detected"),
    exceptions.ReadOnlySQLTransactionError("cannot execute INSERT in a read-only transaction"),
    exceptions.UndefinedTableError("no such table: the database is being put back"),
    exceptions.InvalidPasswordError("no such role: the database is being put back"),
    exceptions.InsufficientPrivilegeError("permission denied: set-up has not granted it yet"),
    asyncpg.InterfaceError("connection is closed"),
    asyncpg.InterfaceError("cannot call Transaction.__aexit__(): the underlying connection is closed"),
    asyncpg.InterfaceError("cannot call Connection.execute(): connection has been released back to the pool"),
    asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress"),
]
FAULTS = [
    exceptions.QueryCanceledError("canceling statement due to statement timeout"),
    exceptions.UniqueViolationError("duplicate key"),
    asyncpg.InterfaceError("cannot perform operation: another operation is in progress"),
    asyncpg.InterfaceError("the server expects 1 argument for this query, 0 were passed"),
]


@pytest.mark.parametrize("error", OUTAGES, ids=lambda error: str(error)[:40])
def test_recoverable_error_is_an_outage(error):
    assert kind_of(error) is Kind.OUTAGE


@pytest.mark.parametrize("error", FAULTS, ids=lambda error: str(error)[:40])
def test_permanent_error_is_not_an_outage(error):
    assert kind_of(error) is Kind.UNKNOWN

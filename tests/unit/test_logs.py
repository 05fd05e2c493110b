"""Logs contain no secrets."""

import logging

import pytest
import structlog

from shared import logs


@pytest.fixture
def configured():
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    yield logs.configure
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def fails():
    dsn = "postgresql://penstock:canary@db/penstock"
    raise ValueError(len(dsn))


@pytest.mark.parametrize("fmt", ["json", "pretty"])
def test_traceback_omits_values_of_local_variables(configured, capsys, fmt):
    configured("test", fmt=fmt)
    try:
        fails()
    except ValueError:
        structlog.get_logger().exception("odd", password="canary")
    said = capsys.readouterr().err
    assert "ValueError" in said
    assert "canary" not in said

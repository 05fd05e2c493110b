from types import SimpleNamespace

import pytest

from services.cli import app
from services.cli.app import AFTER_INTERRUPT, COMMANDS, GROUPS, run
from shared.errors import Outage


@pytest.fixture(autouse=True)
def _quiet(monkeypatch):
    monkeypatch.setattr(app, "quiet_libraries", lambda: None)
    monkeypatch.setattr(app, "quiet_structlog", lambda: None)


@pytest.fixture
def fails_with(monkeypatch):
    def arrange(error):
        def fail(*_, **__):
            raise error

        monkeypatch.setattr(app, "build_app", lambda _: SimpleNamespace(parse_args=fail))

    return arrange


EACH = [[name] for name in COMMANDS] + [[word, name] for word, (_, _, names) in GROUPS.items() for name in names]


@pytest.mark.parametrize("words", EACH)
def test_every_help_has_examples_and_the_json_flag(words, capsys):
    assert run([*words, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"penstock {' '.join(words)}" in text.split("For example:")[1]
    assert "--json" in text


def test_overview_lists_every_command_and_the_exit_codes(capsys):
    assert run([]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in (*COMMANDS, *GROUPS, "--install-completion"))
    assert "3 pending" in " ".join(text.split())


def test_every_command_has_a_message_for_interrupts():
    assert set(AFTER_INTERRUPT) == {*COMMANDS, *GROUPS}


@pytest.mark.parametrize(
    "words", [["digst"], ["digest"], ["digest", "inbox/a"], ["watch", "--foo"], ["dlq", "replay"], ["put", "a"]]
)
def test_usage_error_is_one_line_with_exit_code_2(words, capsys):
    assert run(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("penstock: ")
    assert error.count("\n") == 1


def test_outage_is_one_line_with_exit_code_1(fails_with, capsys):
    fails_with(Outage("Kafka at x does not answer: cannot connect; start\nthe \x1b[31mstack"))
    assert run(["status"]) == 1
    assert capsys.readouterr().err == "penstock: Kafka at x does not answer: cannot connect; start the \\x1b[31mstack\n"


def test_interrupted_command_prints_what_continues(fails_with, capsys):
    fails_with(KeyboardInterrupt())
    assert run(["sweep"]) == 130
    assert "sweep continues in ingest" in capsys.readouterr().err


def test_unexpected_error_is_one_line_unless_log_level_is_debug(fails_with, capsys, monkeypatch):
    fails_with(KeyError("x"))
    assert run(["status"]) == 1
    assert "internal error: KeyError: 'x'" in capsys.readouterr().err
    monkeypatch.setenv("PENSTOCK_LOG_LEVEL", "DEBUG")
    with pytest.raises(KeyError):
        run(["status"])


def test_closed_pipe_is_no_error(fails_with, capsys, monkeypatch):
    monkeypatch.setattr(app.os, "dup2", lambda *_: None)
    fails_with(BrokenPipeError())
    assert run(["watch"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (("sweep", "--republish"), "republish", True),
        (("sweep", "--retell"), "republish", True),
        (("dlq", "show", "--id", "a.dlq/0/1"), "dead_letter_id", "a.dlq/0/1"),
        (("dlq", "replay", "--letter", "a.dlq/0/1"), "dead_letter_id", "a.dlq/0/1"),
        (("dlq", "discard", "a.dlq/0/1"), "dead_letter_id", "a.dlq/0/1"),
        (("token", "create", "x", "--scope", "read", "--prefix", "inbox/"), "prefix", ("inbox/",)),
        (("token", "create", "x", "--scope", "read", "--place", "inbox/"), "prefix", ("inbox/",)),
    ],
)
def test_renamed_flags_have_their_former_names_as_aliases(words, name, value):
    _, bound, _ = app.build_app(words).parse_args(list(words), exit_on_error=False, print_error=False)
    assert bound.arguments[name] == value

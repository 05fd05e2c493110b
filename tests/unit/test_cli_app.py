from types import SimpleNamespace

import pytest

from services.cli import app
from services.cli.app import COMMANDS, GOES_ON, GROUPS, run
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
def test_every_command_explains_itself_with_examples_and_speaks_json(words, capsys):
    assert run([*words, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"penstock {' '.join(words)}" in text.split("For example:")[1]
    assert "--json" in text


def test_the_overview_names_every_command_and_the_exit_codes(capsys):
    assert run([]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in (*COMMANDS, *GROUPS, "--install-completion"))
    assert "3 pending" in " ".join(text.split())


def test_every_command_says_what_goes_on_without_it():
    assert set(GOES_ON) == {*COMMANDS, *GROUPS}


@pytest.mark.parametrize(
    "words", [["digst"], ["digest"], ["digest", "inbox/a"], ["watch", "--foo"], ["dlq", "replay"], ["put", "a"]]
)
def test_wrong_usage_is_one_line_and_exit_code_2(words, capsys):
    assert run(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("penstock: ")
    assert error.count("\n") == 1


def test_trouble_is_one_line_and_exit_code_1(fails_with, capsys):
    fails_with(Outage("Kafka at x does not answer: cannot connect; start\nthe \x1b[31mstack"))
    assert run(["status"]) == 1
    assert capsys.readouterr().err == "penstock: Kafka at x does not answer: cannot connect; start the \\x1b[31mstack\n"


def test_an_interrupted_command_says_what_goes_on(fails_with, capsys):
    fails_with(KeyboardInterrupt())
    assert run(["sweep"]) == 130
    assert "the sweep goes on in ingest" in capsys.readouterr().err


def test_a_fault_of_ours_is_one_line_too_unless_somebody_debugs(fails_with, capsys, monkeypatch):
    fails_with(KeyError("x"))
    assert run(["status"]) == 1
    assert "a fault of its own: KeyError: 'x'" in capsys.readouterr().err
    monkeypatch.setenv("PENSTOCK_LOG_LEVEL", "DEBUG")
    with pytest.raises(KeyError):
        run(["status"])


def test_a_reader_that_went_away_is_no_trouble(fails_with, capsys, monkeypatch):
    monkeypatch.setattr(app.os, "dup2", lambda *_: None)
    fails_with(BrokenPipeError())
    assert run(["watch"]) == 0
    assert capsys.readouterr().err == ""

"""`python -m services`: the same wiring, several services in one process."""

import pytest

from services import __main__ as several


@pytest.fixture
def started(monkeypatch):
    ran = []
    monkeypatch.setattr(several, "run", lambda *services: ran.extend(services) or 0)
    return ran


def test_without_names_all_run_on_ports_of_their_own(started, monkeypatch):
    monkeypatch.delenv("PENSTOCK_HEALTH_PORT", raising=False)
    assert several.main([]) == 0
    ports = [one.settings.health_port for one in started]
    assert {"ingest", "hasher"} <= {one.name for one in started}
    assert len(set(ports)) == len(ports)


def test_with_a_port_given_the_others_take_the_next_ones(started, monkeypatch):
    monkeypatch.setenv("PENSTOCK_HEALTH_PORT", "26100")
    several.main(["ingest", "hasher", "ingest"])
    assert [(one.name, one.settings.health_port) for one in started] == [("ingest", 26100), ("hasher", 26101)]


def test_a_service_that_there_is_not_is_named_with_those_there_are(started, capsys):
    assert several.main(["ingest", "hashser"]) == 2
    assert started == []
    assert "no service hashser: there are etl, hasher, ingest" in capsys.readouterr().err

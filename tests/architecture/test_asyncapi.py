"""The event document comes from the code, is fresh, and says nothing about this machine."""

import pytest
import yaml

from services import asyncapi, catalogue


def test_the_document_is_fresh(capsys):
    assert asyncapi.main(["--check"]) == 0, capsys.readouterr().err


def test_a_stale_document_is_told_in_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(asyncapi, "DOCUMENT", tmp_path / "asyncapi.yaml")
    for text in (None, "asyncapi: 3.0.0\n"):
        if text is not None:
            asyncapi.DOCUMENT.write_text(text)
        assert asyncapi.main(["--check"]) == 1
        assert capsys.readouterr().err == "asyncapi.yaml is stale: run `python -m services.asyncapi`\n"
    assert asyncapi.main([]) == 0
    assert asyncapi.main(["--check"]) == 0


def test_the_environment_does_not_show(monkeypatch):
    monkeypatch.setenv("PENSTOCK_KAFKA_BOOTSTRAP", "canary.internal:19092")
    monkeypatch.setenv("PENSTOCK_S3_ENDPOINT", "http://canary.internal:19000")
    text = asyncapi.document()
    assert text == asyncapi.DOCUMENT.read_text()
    assert not [word for word in ("127.0.0.1", "localhost", "canary", "/root", "/home") if word in text]


@pytest.fixture(scope="module")
def document():
    return yaml.safe_load(asyncapi.DOCUMENT.read_text())


def test_every_consumed_topic_and_its_payload_is_there(document):
    received = {
        document["channels"][one["channel"]["$ref"].removeprefix("#/channels/").replace("%2B", "+")]["address"]
        for one in document["operations"].values()
        if one["action"] == "receive"
    }
    assert received == {topic.name for read in catalogue.manifests().consumers.values() for topic in read}


def test_a_message_is_one_event_and_not_a_batch(document):
    for message in document["components"]["messages"].values():
        schema = document["components"]["schemas"][message["payload"]["$ref"].rpartition("/")[2]]
        assert schema["type"] == "object"


def test_events_are_described_as_they_are_declared(document):
    for kind in catalogue.manifests().events:
        if kind.__name__ in document["components"]["schemas"]:
            assert set(document["components"]["schemas"][kind.__name__]["properties"]) == set(kind.model_fields)

"""The API's document comes from the code, is fresh, tells every route, and says nothing about this machine."""

import pytest
import yaml

from services import openapi
from services.ingress.routes.auth_middleware import is_public_path


@pytest.fixture(scope="module")
def document():
    return yaml.safe_load(openapi.DOCUMENT.read_text())


def operations(document):
    return {(method, path): one for path, found in document["paths"].items() for method, one in found.items()}


def test_the_document_is_fresh(capsys):
    assert openapi.main(["--check"]) == 0, capsys.readouterr().err


def test_a_stale_document_is_told_in_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(openapi, "DOCUMENT", tmp_path / "openapi.yaml")
    for text in (None, "openapi: 3.1.0\n"):
        if text is not None:
            openapi.DOCUMENT.write_text(text)
        assert openapi.main(["--check"]) == 1
        assert capsys.readouterr().err == "openapi.yaml is stale: run `python -m services.openapi`\n"
    assert openapi.main([]) == 0
    assert openapi.main(["--check"]) == 0


def test_the_environment_does_not_show(monkeypatch):
    monkeypatch.setenv("PENSTOCK_HTTP_URL", "http://canary.internal:18080")
    text = openapi.document()
    assert text == openapi.DOCUMENT.read_text()
    assert not [word for word in ("127.0.0.1", "localhost", "canary", "/root", "/home") if word in text]


def test_every_operation_has_a_name_of_its_own_a_description_and_our_own_errors(document):
    found = operations(document)
    assert len({one["operationId"] for one in found.values()}) == len(found)
    assert [path for path, one in found.items() if not one.get("description")] == []
    assert {tuple(one["responses"]["default"]["content"]) for one in found.values()} == {("application/problem+json",)}
    assert not [path for path, one in found.items() if "422" in one["responses"]]


def test_what_is_open_to_everybody_says_so(document):
    open_ones = {path for (_, path), one in operations(document).items() if one.get("security") == []}
    assert open_ones == {path for path in document["paths"] if is_public_path(path)} >= {"/health", "/metrics"}
    assert {next(iter(one)) for one in document["security"]} == set(document["components"]["securitySchemes"])


def test_the_routes_of_the_systems_that_are_replaced_are_told(document):
    documented = {
        ("post", "/uploadfile/"),
        ("get", "/gethash/"),
        ("get", "/gethash/{file_id}"),
        ("post", "/files/"),
        ("get", "/files/{name}"),
        ("post", "/files/upload_minio"),
        ("get", "/health"),
        ("get", "/metrics"),
    }
    assert documented <= set(operations(document))


def test_pages_are_no_part_of_it(document):
    assert not {"/", "/docs", "/uploadform/", "/recent"} & set(document["paths"])

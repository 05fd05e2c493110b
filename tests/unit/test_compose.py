"""The stack with Docker is made of the same services as the one without."""

import json

import pytest
import yaml

from deploy.native import install, services
from deploy.native.install import CHECKOUT
from shared.provision.policies import POLICIES
from shared.provision.rights import READER, RIGHTS

COMPOSE = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())["services"]


@pytest.mark.parametrize("name", services.found())
def test_every_service_is_there_with_its_own_user_and_nobody_elses_secrets(name):
    given = COMPOSE[name]["environment"]
    assert given["PENSTOCK_S3_ACCESS_KEY"] == f"penstock-{name}"
    assert given["PENSTOCK_S3_SECRET_KEY"].startswith(f"${{PENSTOCK_S3_SECRET_KEY_{name.upper()}:?")
    entrusted = {f"PENSTOCK_{word}" for word in services.ENTRUSTED.get(name, ())}
    secrets = {word for word in given if word.startswith("PENSTOCK_S3_SECRET_KEY_") or "READER" in word}
    assert secrets <= entrusted
    assert entrusted <= set(given)
    assert COMPOSE[name]["build"]["args"] == {"SERVICE": name}
    password = f"PENSTOCK_POSTGRES_PASSWORD_{name.upper()}"
    assert given["PENSTOCK_POSTGRES_DSN"].startswith(f"postgresql://penstock_{name}:${{{password}:?")
    assert "PENSTOCK_POSTGRES_PASSWORD" not in given


def test_set_up_knows_the_secret_of_every_user_that_it_makes():
    given = COMPOSE["setup"]["environment"]
    assert {f"PENSTOCK_S3_SECRET_KEY_{name.upper()}" for name in POLICIES} <= set(given)
    assert {f"PENSTOCK_POSTGRES_PASSWORD_{name.upper()}" for name in RIGHTS} <= set(given)
    assert "PENSTOCK_READER_PASSWORD" in given


def test_the_image_of_the_store_is_built_from_the_same_source_with_the_same_patches():
    made = (install.MINIO / "Dockerfile").read_text()
    assert f"build.sh {install.MINIO_VERSION} " in made
    assert "COPY build.sh *.patch" in made
    assert list(install.MINIO.glob("*.patch"))


def test_nothing_answers_beyond_this_machine():
    opened = [port for one in COMPOSE.values() for port in one.get("ports", ())]
    assert opened
    assert [port for port in opened if not port.startswith("127.0.0.1:")] == []


def test_pgadmin_knows_the_database_and_comes_when_it_is_asked_for():
    assert COMPOSE["pgadmin"]["profiles"] == ["tools"]
    (server,) = json.loads((CHECKOUT / "deploy/pgadmin/servers.json").read_text())["Servers"].values()
    assert (server["Host"], server["Username"], server["MaintenanceDB"]) == ("postgres", READER, "penstock")

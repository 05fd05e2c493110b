"""The stack with Docker is made of the same services as the one without."""

import json

import pytest
import yaml

from deploy import compose
from deploy.native import install, kafka_login
from deploy.native.install import CHECKOUT
from services import catalogue
from shared.provision.rights import READER

COMPOSE = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())["services"]
MANIFESTS = catalogue.manifests()
SECRET = ("PENSTOCK_S3_SECRET_KEY_", "PENSTOCK_POSTGRES_PASSWORD_")


@pytest.mark.parametrize("name", catalogue.names())
def test_every_service_is_there_with_its_own_user_and_nobody_elses_secrets(name):
    given = COMPOSE[name]["environment"]
    assert given["PENSTOCK_S3_ACCESS_KEY"] == f"penstock-{name}"
    assert given["PENSTOCK_S3_SECRET_KEY"].startswith(f"${{PENSTOCK_S3_SECRET_KEY_{name.upper()}:?")
    entrusted = {f"PENSTOCK_{word}" for word in MANIFESTS[name].entrusted}
    secrets = {word for word in given if word.startswith("PENSTOCK_S3_SECRET_KEY_") or "READER" in word}
    assert secrets <= entrusted
    assert entrusted <= set(given)
    assert COMPOSE[name]["build"]["args"] == {"SERVICE": name}
    password = f"PENSTOCK_POSTGRES_PASSWORD_{name.upper()}"
    assert given["PENSTOCK_POSTGRES_DSN"].startswith(f"postgresql://penstock_{name}:${{{password}:?")
    assert "PENSTOCK_POSTGRES_PASSWORD" not in given


def test_set_up_knows_the_secret_of_every_user_that_it_makes():
    given = COMPOSE["setup"]["environment"]
    assert "PENSTOCK_READER_PASSWORD" in given
    missing = [name for name in MANIFESTS.secrets if name.startswith(SECRET) and name not in given]
    assert missing == [], "add to setup: " + ", ".join(f"{name}: ${{{name}:?run make up}}" for name in missing)


def test_example_of_env_has_every_secret_of_a_service():
    example = (CHECKOUT / ".env.example").read_text()
    missing = [f"{name}=<random>" for name in MANIFESTS.secrets if f"\n{name}=" not in example]
    assert missing == [], "add to .env.example:\n" + "\n".join(missing)


def test_the_image_of_the_store_is_built_from_the_same_source_with_the_same_patches():
    made = (install.MINIO / "Dockerfile").read_text()
    assert f"build.sh {install.MINIO_VERSION} " in made
    assert "COPY build.sh *.patch" in made
    assert list(install.MINIO.glob("*.patch"))


def test_no_server_shares_its_files_with_another_container():
    mounts = [(volume.split(":")[0], name) for name, one in COMPOSE.items() for volume in one.get("volumes", ())]
    named = [(volume, name) for volume, name in mounts if "/" not in volume]
    assert {("minio", "minio"), ("kafka", "kafka"), ("postgres", "postgres")} <= set(named)
    assert len({volume for volume, _ in named}) == len(named), "each volume has one container"


def test_kafka_s_image_leaves_no_volumes_without_a_name_behind():
    (data,) = COMPOSE["kafka"]["volumes"]
    declared_by_the_image = {"/etc/kafka/secrets", "/mnt/shared/config", "/var/lib/kafka/data"}
    assert {*COMPOSE["kafka"]["tmpfs"], data.split(":")[1]} == declared_by_the_image


def test_the_ingress_watches_a_disk_that_holds_no_files_of_others():
    watched = COMPOSE["ingress"]["environment"]["PENSTOCK_DISK_PATH"]
    assert f"ingress:{watched}" in COMPOSE["ingress"]["volumes"]


def test_nothing_answers_beyond_this_machine():
    opened = [port for one in COMPOSE.values() for port in one.get("ports", ())]
    assert opened
    assert [port for port in opened if not port.startswith("127.0.0.1:")] == []


def test_pgadmin_knows_the_database_and_comes_when_it_is_asked_for():
    assert COMPOSE["pgadmin"]["profiles"] == ["tools"]
    (server,) = json.loads((CHECKOUT / "deploy/pgadmin/servers.json").read_text())["Servers"].values()
    assert (server["Host"], server["Username"], server["MaintenanceDB"]) == ("postgres", READER, "penstock")


@pytest.mark.parametrize("word", ["down", "clean"])
def test_what_a_profile_started_ends_with_the_stack(word):
    options = compose.COMMANDS[word]
    assert options[: options.index("down")] == ("--profile", "*")


KAFKA_USERS = yaml.safe_load((CHECKOUT / compose.KAFKA_USERS).read_text())


def test_kafka_has_users_where_it_is_asked_for():
    assert compose.files({"PENSTOCK_KAFKA_AUTH": "scram"}) == ["-f", "docker-compose.yml", "-f", compose.KAFKA_USERS]
    assert compose.files({"PENSTOCK_KAFKA_AUTH": "none"}) == compose.files({}) == []


def test_with_users_kafka_is_set_up_as_without_docker():
    wanted = dict(line.split("=", 1) for line in kafka_login.WITH_USERS.splitlines())
    given = {**COMPOSE["kafka"]["environment"], **KAFKA_USERS["services"]["kafka"]["environment"]}
    for name, value in wanted.items():
        if not name.startswith(("listeners", "advertised", "listener.security", "inter.broker")):
            assert given[f"KAFKA_{name.upper().replace('.', '_')}"] == value.format(operator="penstock"), name
    assert "PLAINTEXT" not in given["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].replace("SASL_PLAINTEXT", "")


def test_each_listener_knows_the_operator_and_clients_log_in_by_scram_too():
    text = KAFKA_USERS["configs"]["kafka-logins"]["content"]
    assert text.count('username="penstock"') == text.count("user_penstock=") == 3
    assert text.count("ScramLoginModule required;") == 2
    assert [line.split(".")[0] for line in text.splitlines() if line.endswith("KafkaServer {")] == [
        "inside",
        "outside",
        "controller",
    ]


def test_a_file_for_a_container_has_no_owner_which_docker_would_look_up_on_the_host():
    (logins,) = KAFKA_USERS["services"]["kafka"]["configs"]
    assert {"uid", "gid"} & set(logins) == set()
    assert logins["mode"] == 0o444


@pytest.mark.parametrize("name", catalogue.names())
def test_a_service_has_its_own_kafka_user_and_nobody_elses_password(name):
    given = KAFKA_USERS["services"][name]["environment"]
    assert given["PENSTOCK_KAFKA_USER"] == f"penstock-{name}"
    assert given["PENSTOCK_KAFKA_PASSWORD"].startswith(f"${{PENSTOCK_KAFKA_PASSWORD_{name.upper()}:?")
    assert set(given) == {"PENSTOCK_KAFKA_USER", "PENSTOCK_KAFKA_PASSWORD"}


def test_set_up_knows_every_kafka_password_and_logs_in_as_kafka_s_file_allows():
    given = KAFKA_USERS["services"]["setup"]["environment"]
    assert {f"PENSTOCK_KAFKA_PASSWORD_{name.upper()}" for name in MANIFESTS.kafka_users} <= set(given)
    assert given["PENSTOCK_KAFKA_MECHANISM"] == "PLAIN"
    lanes = KAFKA_USERS["services"]["minio"]["environment"]
    env = {
        "PENSTOCK_KAFKA_AUTH": "scram",
        "PENSTOCK_KAFKA_PASSWORD_MINIO": "${PENSTOCK_KAFKA_PASSWORD_MINIO:?run make up}",
    }
    assert lanes == {**kafka_login.minio_env(env, "LIVE"), **kafka_login.minio_env(env, "SAFE")}

"""One variable moves a server; `.env` is made once, with its own secrets, and grows with its example."""

import re
import shutil

import pytest

from deploy.native import dotenv, services
from deploy.native.install import CHECKOUT
from shared.environment import read_file, resolve, with_login


@pytest.mark.parametrize(
    ("layers", "port", "endpoint"),
    [
        ([{}], "9000", "http://127.0.0.1:9000"),
        ([{"PENSTOCK_S3_PORT": "9100"}], "9100", "http://127.0.0.1:9100"),
        ([{"PENSTOCK_S3_ENDPOINT": "http://127.0.0.1:9200"}], "9200", "http://127.0.0.1:9200"),
        ([{"PENSTOCK_S3_PORT": "1"}, {"PENSTOCK_S3_ENDPOINT": "http://127.0.0.1:9000"}], "1", "http://127.0.0.1:1"),
        ([{"PENSTOCK_S3_ENDPOINT": "http://127.0.0.1:2"}, {"PENSTOCK_S3_PORT": "9100"}], "2", "http://127.0.0.1:2"),
    ],
    ids=["default", "by port", "by address", "the process's port wins", "the process's address wins"],
)
def test_a_server_is_moved_by_one_variable(layers, port, endpoint):
    found = resolve(*layers)
    assert (found["PENSTOCK_S3_PORT"], found["PENSTOCK_S3_ENDPOINT"]) == (port, endpoint)


def test_a_password_of_digits_is_not_taken_for_a_port():
    found = resolve(
        {"PENSTOCK_POSTGRES_PORT": "5555"}, {"PENSTOCK_POSTGRES_DSN": "postgresql://p:1234@127.0.0.1:5432/p"}
    )
    assert found["PENSTOCK_POSTGRES_DSN"] == "postgresql://p:1234@127.0.0.1:5555/p"


def test_the_controller_moves_with_its_broker():
    assert resolve({"PENSTOCK_KAFKA_PORT": "7000"})["PENSTOCK_KAFKA_CONTROLLER_PORT"] == "7001"


@pytest.fixture
def folder(tmp_path):
    shutil.copy(CHECKOUT / dotenv.EXAMPLE, tmp_path)
    return tmp_path


def test_the_first_use_makes_a_private_file_without_placeholders(folder):
    dotenv.ensure(folder, {"PENSTOCK_S3_PORT": "9100", "HOME": "/x"}, ["PENSTOCK_S3_SECRET_KEY_LOADER"])
    made = read_file(folder)
    assert (folder / ".env").stat().st_mode & 0o777 == 0o600
    assert dotenv.RANDOM not in made.values()
    assert made["PENSTOCK_S3_ENDPOINT"] == "http://127.0.0.1:9100"
    assert made["PENSTOCK_POSTGRES_PASSWORD"] in made["PENSTOCK_POSTGRES_DSN"]
    assert len({value for name, value in made.items() if "SECRET" in name or "TOKEN" in name}) == 9
    assert "PENSTOCK_S3_SECRET_KEY_LOADER" in made
    assert made["PENSTOCK_POSTGRES_PASSWORD_INGEST"] not in made["PENSTOCK_POSTGRES_DSN"]


def test_later_uses_keep_it_and_add_what_the_example_has_gained(folder):
    dotenv.ensure(folder, {})
    before = read_file(folder)
    with (folder / dotenv.EXAMPLE).open("a") as example:
        example.write("PENSTOCK_NEW_SECRET=<random>\n")
    dotenv.ensure(folder, {})
    after = read_file(folder)
    new = after.pop("PENSTOCK_NEW_SECRET")
    assert after == before
    assert len(new) == 40
    dotenv.ensure(folder, {})
    assert read_file(folder) == {**before, "PENSTOCK_NEW_SECRET": new}


def test_a_file_of_another_program_is_filled_up_and_loses_nothing(folder):
    (folder / ".env").write_text("# theirs\nDATABASE_URL=postgres://x\n")
    dotenv.ensure(folder, {}, ["PENSTOCK_POSTGRES_PASSWORD_ETL"])
    assert (folder / ".env").read_text().startswith("# theirs\nDATABASE_URL=postgres://x\n")
    made = read_file(folder)
    assert {"PENSTOCK_TOKEN", "PENSTOCK_POSTGRES_PASSWORD_ETL"} <= set(made)
    assert "DATABASE_URL" not in made


def test_a_secret_that_was_emptied_stays_empty(folder):
    dotenv.ensure(folder, {}, ["PENSTOCK_POSTGRES_PASSWORD_ETL"])
    text = (folder / ".env").read_text()
    name = "PENSTOCK_POSTGRES_PASSWORD_ETL"
    emptied = re.sub(rf"^{name}=.*$", f"{name}=", text, flags=re.MULTILINE)
    (folder / ".env").write_text(emptied)
    env = dotenv.ensure(folder, {}, ["PENSTOCK_POSTGRES_PASSWORD_ETL"])
    assert (folder / ".env").read_text() == emptied
    assert services.service_env(env, "etl", 1)["PENSTOCK_POSTGRES_DSN"] == env["PENSTOCK_POSTGRES_DSN"]


@pytest.mark.parametrize(
    ("dsn", "own"),
    [
        ("postgresql://penstock:a%40b@127.0.0.1:5432/penstock", "postgresql://u:p%2F%40@127.0.0.1:5432/penstock"),
        ("postgres://h", "postgres://u:p%2F%40@h"),
        ("postgresql://penstock@[::1]:5432", "postgresql://u:p%2F%40@[::1]:5432"),
        (
            "postgresql://a:b@h1:1,h2:2/db?sslmode=verify-full&user=x&password=y&sslrootcert=/ca",
            "postgresql://u:p%2F%40@h1:1,h2:2/db?sslmode=verify-full&sslrootcert=/ca",
        ),
        ("postgresql:///db?host=/run/pg&user=me", "postgresql://u:p%2F%40@/db?host=/run/pg"),
        ("postgresql://h/db?password=y", "postgresql://u:p%2F%40@h/db"),
    ],
)
def test_a_services_address_differs_in_user_and_password_alone(dsn, own):
    assert with_login(dsn, "u", "p/@") == own


def test_service_gets_its_own_secret_and_no_other(folder):
    env = dotenv.ensure(folder, {})
    given = services.service(env, "hasher", 2, 8090).env
    assert "PENSTOCK_READER_PASSWORD" not in given
    secrets = {value for name, value in env.items() if name.endswith(("KEY", "INGEST", "HASHER", "TOKEN"))}
    own = env["PENSTOCK_S3_SECRET_KEY_HASHER"]
    role, password = "penstock_hasher", env["PENSTOCK_POSTGRES_PASSWORD_HASHER"]
    assert given["PENSTOCK_POSTGRES_DSN"] == f"postgresql://{role}:{password}@127.0.0.1:5432/penstock"
    assert secrets & set(given.values()) == {own}
    assert (given["PENSTOCK_S3_ACCESS_KEY"], given["PENSTOCK_S3_SECRET_KEY"]) == ("penstock-hasher", own)
    assert given["PENSTOCK_HEALTH_PORT"] == "8090"

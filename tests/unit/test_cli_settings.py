import pytest

from services.cli import settings
from services.cli.settings import load
from shared.errors import PenstockError, Rejected


def test_the_process_wins_over_the_file(tmp_path):
    (tmp_path / ".env").write_text("PENSTOCK_S3_ACCESS_KEY=file\nPENSTOCK_S3_SECRET_KEY=hush\n")
    settings = load({"PENSTOCK_S3_ACCESS_KEY": "process"}, tmp_path)
    assert settings.s3_access_key == "process"
    assert settings.s3_secret_key.get_secret_value() == "hush"


FOREIGN = {
    "another program's": b"DATABASE_URL=postgres://x\nAWS_ACCESS_KEY_ID=theirs\n",
    "empty": b"",
    "no UTF-8": b"NAME=\xff\xfe\n",
    "no assignments": b"{ not: [a file of variables\n\x00",
    "ours without a value": b"PENSTOCK_S3_ACCESS_KEY=\n",
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_the_env_of_another_program_changes_nothing(tmp_path, monkeypatch, content):
    checkout, foreign = tmp_path / "checkout", tmp_path / "foreign"
    for folder in (checkout, foreign):
        folder.mkdir()
    (checkout / ".env").write_text("PENSTOCK_S3_ACCESS_KEY=ours\nPENSTOCK_STATE_DIR=.state\n")
    (foreign / ".env").write_bytes(content)
    monkeypatch.setattr(settings, "CHECKOUT", checkout)
    monkeypatch.chdir(foreign)
    found = load({})
    assert (found.s3_access_key, found.state_dir) == ("ours", checkout / ".state")


def test_a_folder_called_env_changes_nothing(tmp_path, monkeypatch):
    (tmp_path / "foreign" / ".env").mkdir(parents=True)
    (tmp_path / ".env").write_text("PENSTOCK_S3_ACCESS_KEY=ours\n")
    monkeypatch.setattr(settings, "CHECKOUT", tmp_path)
    monkeypatch.chdir(tmp_path / "foreign")
    assert load({}).s3_access_key == "ours"


def test_the_env_of_the_current_folder_counts_where_it_is_ours(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text("OTHER=1\nPENSTOCK_S3_ACCESS_KEY=near\n")
    monkeypatch.chdir(tmp_path)
    assert load({}).s3_access_key == "near"


def test_an_env_of_ours_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / ".env").write_bytes(b"PENSTOCK_TOKEN=\xff")
    with pytest.raises(PenstockError, match="not UTF-8"):
        load({}, tmp_path)


def test_the_state_folder_is_where_the_file_is(tmp_path):
    (tmp_path / ".env").write_text("PENSTOCK_STATE_DIR=.state\n")
    assert load({}, tmp_path).state_dir == tmp_path / ".state"


def test_the_services_secrets_are_found_by_service_and_never_shown(tmp_path):
    settings = load({"PENSTOCK_S3_SECRET_KEY_COLAB_RUNNER": "hush"}, tmp_path)
    assert settings.user_secrets["colab_runner"].get_secret_value() == "hush"


def test_passwords_of_database_roles_are_gathered_by_service(tmp_path):
    settings = load({"PENSTOCK_POSTGRES_PASSWORD_ETL": "e", "PENSTOCK_POSTGRES_PASSWORD": "p"}, tmp_path)
    assert {name: one.get_secret_value() for name, one in settings.role_passwords.items()} == {"etl": "e"}
    assert "hush" not in repr(settings)


def test_a_wrong_value_is_named_without_being_shown(tmp_path):
    with pytest.raises(Rejected, match="PENSTOCK_HEALTH_PORT") as refusal:
        load({"PENSTOCK_HEALTH_PORT": "geheim"}, tmp_path)
    assert "geheim" not in str(refusal.value)

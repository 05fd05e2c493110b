import pytest

from services.cli import settings
from services.cli.settings import load
from shared.errors import PenstockError, Rejected


def test_environment_overrides_the_file(tmp_path):
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
def test_env_file_of_another_program_is_ignored(tmp_path, monkeypatch, content):
    checkout, foreign = tmp_path / "checkout", tmp_path / "foreign"
    for folder in (checkout, foreign):
        folder.mkdir()
    (checkout / ".env").write_text("PENSTOCK_S3_ACCESS_KEY=ours\nPENSTOCK_STATE_DIR=.state\n")
    (foreign / ".env").write_bytes(content)
    monkeypatch.setattr(settings, "CHECKOUT", checkout)
    monkeypatch.chdir(foreign)
    found = load({})
    assert (found.s3_access_key, found.state_dir) == ("ours", checkout / ".state")


def test_folder_named_env_is_ignored(tmp_path, monkeypatch):
    (tmp_path / "foreign" / ".env").mkdir(parents=True)
    (tmp_path / ".env").write_text("PENSTOCK_S3_ACCESS_KEY=ours\n")
    monkeypatch.setattr(settings, "CHECKOUT", tmp_path)
    monkeypatch.chdir(tmp_path / "foreign")
    assert load({}).s3_access_key == "ours"


def test_env_file_of_the_current_folder_is_used_if_it_has_our_variables(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text("OTHER=1\nPENSTOCK_S3_ACCESS_KEY=near\n")
    monkeypatch.chdir(tmp_path)
    assert load({}).s3_access_key == "near"


def test_unreadable_env_file_is_an_error(tmp_path):
    (tmp_path / ".env").write_bytes(b"PENSTOCK_TOKEN=\xff")
    with pytest.raises(PenstockError, match="not UTF-8"):
        load({}, tmp_path)


def test_state_folder_is_relative_to_the_env_file(tmp_path):
    (tmp_path / ".env").write_text("PENSTOCK_STATE_DIR=.state\n")
    assert load({}, tmp_path).state_dir == tmp_path / ".state"


def test_s3_secrets_are_collected_by_service(tmp_path):
    settings = load({"PENSTOCK_S3_SECRET_KEY_COLAB_RUNNER": "hush"}, tmp_path)
    assert settings.user_secrets["colab_runner"].get_secret_value() == "hush"
    assert "hush" not in repr(settings)


def test_passwords_of_database_roles_are_collected_by_service(tmp_path):
    settings = load({"PENSTOCK_POSTGRES_PASSWORD_ETL": "e", "PENSTOCK_POSTGRES_PASSWORD": "p"}, tmp_path)
    assert {name: one.get_secret_value() for name, one in settings.role_passwords.items()} == {"etl": "e"}


def test_invalid_value_is_rejected_without_being_shown(tmp_path):
    with pytest.raises(Rejected, match="PENSTOCK_HEALTH_PORT") as rejected:
        load({"PENSTOCK_HEALTH_PORT": "geheim"}, tmp_path)
    assert "geheim" not in str(rejected.value)

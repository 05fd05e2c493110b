import pytest

from services.cli.settings import load
from shared.errors import Rejected


def test_the_process_wins_over_the_file(tmp_path):
    (tmp_path / ".env").write_text("PENSTOCK_S3_ACCESS_KEY=file\nPENSTOCK_S3_SECRET_KEY=hush\n")
    settings = load({"PENSTOCK_S3_ACCESS_KEY": "process"}, tmp_path)
    assert settings.s3_access_key == "process"
    assert settings.s3_secret_key.get_secret_value() == "hush"


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

"""Settings come from the environment, are frozen, and reject a bucket that is input and output."""

import pytest
from pydantic import ValidationError

from services.hasher.settings import HasherSettings
from services.ingest.settings import IngestSettings
from shared.settings import Settings


def test_word_list_splits_at_commas_and_blanks(monkeypatch):
    monkeypatch.setenv("PENSTOCK_INPUT_BUCKETS", "one, two three,")
    assert Settings().input_buckets == ("one", "two", "three")


def test_bucket_that_is_input_and_output_is_rejected_by_name(monkeypatch):
    monkeypatch.setenv("PENSTOCK_INPUT_BUCKETS", "inbox,results")
    with pytest.raises(ValidationError, match=r"bucket results is both input and output.*PENSTOCK_OUTPUT_BUCKETS"):
        Settings()


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError):
        Settings().s3_region = "elsewhere"


def test_repr_of_settings_hides_secrets(monkeypatch):
    monkeypatch.setenv("PENSTOCK_S3_SECRET_KEY", "canary")
    monkeypatch.setenv("PENSTOCK_POSTGRES_DSN", "postgresql://u:canary@h/d")
    settings = Settings()
    assert "canary" not in f"{settings!r} {settings} {settings.model_dump_json()}"
    assert settings.s3_secret_key.get_secret_value() == "canary"


@pytest.mark.parametrize("kind", [Settings, IngestSettings, HasherSettings])
def test_every_setting_has_a_description(kind):
    for name, field in kind.model_fields.items():
        assert field.description, name
        assert "\n" not in field.description


@pytest.mark.parametrize(
    ("name", "value"),
    [("PENSTOCK_HASHER_LARGE_BYTES", "0"), ("PENSTOCK_HASHER_DELAY", "-1"), ("PENSTOCK_SHUTDOWN_GRACE", "0")],
)
def test_number_out_of_range_is_rejected(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError):
        HasherSettings()


def test_digests_come_from_one_variable(monkeypatch):
    monkeypatch.setenv("PENSTOCK_HASHER_DIGESTS", "md5 xxh3")
    assert HasherSettings().hasher_digests == ("md5", "xxh3")

"""Former names of settings apply where the new name is unset."""

import re
from pathlib import Path

import pytest

from services.etl.settings import EtlSettings
from services.hasher.settings import HasherSettings
from services.ingress.settings import IngressSettings
from shared.environment import resolve
from shared.former_names import FORMER, renamed, used_in, warning_of

SERVICES = (IngressSettings, HasherSettings, EtlSettings)
SAID = {
    "API_PORT": ("8000", "http_port", 8000),
    "ARTIFITIAL_DELAY": ("10", "hasher_delay", 10.0),
    "CELERY_WORKER_FILESYSTEM_TIMEOUT": ("10", "hasher_wait_for_object", 10.0),
    "CHUNK_SIZE": ("1024", "hasher_chunk_bytes", 1024),
    "DELETE_FILE": ("true", "hasher_delete_after", True),
    "DISK_USAGE_THRESHOLD": ("80", "disk_usage_threshold", 80.0),
    "ETL_INTERVAL": ("*/5 * * * *", "etl_interval", "*/5 * * * *"),
    "FILE_READ_BATCH_SIZE": ("4096", "download_chunk_bytes", 4096),
    "STORAGE_ROOT": ("jobs", "upload_bucket", "jobs"),
}


def settings_with(field):
    return next(one for one in SERVICES if field in one.model_fields)


def test_every_former_name_is_tried_here():
    assert SAID.keys() == FORMER.keys()


@pytest.mark.parametrize("former", FORMER)
def test_a_former_name_is_read_by_its_service(monkeypatch, former):
    text, field, value = SAID[former]
    kind = settings_with(field)
    monkeypatch.setenv(former, text)
    assert getattr(kind(), field) == value
    assert getattr(kind.of({former: text}), field) == value
    assert used_in({former: text}) == {former: f"PENSTOCK_{field.upper()}"}


@pytest.mark.parametrize("former", FORMER)
def test_new_name_overrides_former_name(monkeypatch, former):
    text, field, _ = SAID[former]
    kind = settings_with(field)
    default = kind.model_fields[field].default
    monkeypatch.setenv(former, text)
    monkeypatch.setenv(FORMER[former], str(default))
    assert getattr(kind(), field) == default
    assert used_in({former: text, FORMER[former]: str(default)}) == {}


@pytest.mark.parametrize("said", [{"CHUNK_SIZE": "off"}, {"CHUNK_SIZE": ""}, {"STORAGE_ROOT": "/mnt/cephfs"}])
def test_former_names_with_unset_values_are_ignored(said):
    assert renamed(said) == {}


def test_a_stack_is_moved_by_the_former_port_too():
    env = resolve({"API_PORT": "8123"}, {"DELETE_FILE": "true"})
    assert env["PENSTOCK_HTTP_URL"] == "http://127.0.0.1:8123"
    assert env["PENSTOCK_HASHER_DELETE_AFTER"] == "true"
    assert resolve({"API_PORT": "8123"}, {"PENSTOCK_HTTP_PORT": "8124"})["PENSTOCK_HTTP_PORT"] == "8124"


@pytest.mark.parametrize("former", FORMER)
def test_a_warning_names_both(former):
    assert re.search(rf"{former} .*{FORMER[former]}.*rename", warning_of(former, FORMER[former]))


def test_settings_tell_their_former_names_in_the_docs():
    page = Path("docs/settings.md").read_text()
    for former, name in FORMER.items():
        rows = re.findall(rf"^\| `{name}` \|.*$", page, re.MULTILINE)
        assert any(f"({former})" in row for row in rows)

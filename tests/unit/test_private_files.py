"""What a stack makes is closed to other users, and what is theirs is left alone."""

import os
import stat
from pathlib import Path

import pytest

from deploy.native import dotenv, postgres_home, private
from services.cli.adapters.journal import Journal
from shared.storage.journal import UploadJournal
from shared.storage.objects import ObjectRef


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def no_umask():
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def old(tmp_path):
    """Give a state folder as an earlier version left it."""
    folder = tmp_path / "state"
    for name in ("logs/minio.log", "minio/data/.minio.sys/config/iam/users/penstock-etl/identity.json", "stack.json"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("secret")
    return folder


def test_a_missing_state_folder_is_made_closed_with_its_parents(tmp_path):
    private.close_state_folder(tmp_path / "a" / "b")
    assert (mode(tmp_path / "a"), mode(tmp_path / "a" / "b")) == (0o700, 0o700)


def test_a_state_folder_that_was_open_is_closed_to_its_last_file(old):
    private.close_state_folder(old)
    modes = {mode(path) for path in old.rglob("*")}
    assert (mode(old), modes) == (0o700, {0o700, 0o600})


def test_a_folder_that_is_closed_is_not_walked_again(old):
    private.close_state_folder(old)
    deep = old / "minio/data/.minio.sys/config/iam/users"
    deep.chmod(0o755)
    private.close_state_folder(old)
    assert mode(deep) == 0o755


def test_a_link_out_of_the_state_folder_is_not_followed(old, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    (old / "postgres").symlink_to(outside)
    private.close_state_folder(old)
    assert mode(outside) == 0o755


@pytest.mark.parametrize("name", ["notes.txt", "log", "data"])
def test_a_folder_with_other_things_is_refused_and_stays_open(tmp_path, name):
    (tmp_path / name).write_text("mine")
    tmp_path.chmod(0o755)
    with pytest.raises(private.Unsuitable, match="PENSTOCK_STATE_DIR"):
        private.close_state_folder(tmp_path)
    assert mode(tmp_path) == 0o755


def test_a_folder_for_temporary_files_is_refused(tmp_path):
    tmp_path.chmod(0o1777)
    with pytest.raises(private.Unsuitable, match="PENSTOCK_STATE_DIR"):
        private.close_state_folder(tmp_path)


def test_another_users_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(private.Unsuitable, match="belongs to user"):
        private.close_state_folder(tmp_path)


def test_a_program_cache_that_others_may_change_is_taken_from_them(tmp_path):
    program = tmp_path / "minio-1" / "minio"
    program.parent.mkdir(mode=0o777)
    program.touch(mode=0o777)
    private.remove_modes(tmp_path, private.SHARED_UMASK)
    assert (mode(program.parent), mode(program)) == (0o755, 0o755)


def test_a_file_is_closed_from_its_first_moment(tmp_path):
    with private.open_file(tmp_path / "log", "ab") as file:
        assert mode(tmp_path / "log") == 0o600
        file.write(b"line")


def test_variables_copied_by_hand_are_closed(tmp_path):
    (tmp_path / ".env.example").write_text("PENSTOCK_TOKEN=<random>\n")
    (tmp_path / ".env").write_text("PENSTOCK_TOKEN=1\n")
    dotenv.ensure(tmp_path, {})
    assert mode(tmp_path / ".env") == 0o600


def test_a_journal_of_the_console_is_closed(tmp_path):
    with Journal(tmp_path / "uploads", ["put", "x"]):
        assert [mode(path) for path in (tmp_path / "uploads").iterdir()] == [0o600]
    assert mode(tmp_path / "uploads") == 0o700


def test_a_cluster_moves_whole_with_its_times_and_modes(tmp_path):
    folder, target = tmp_path / "postgres", tmp_path / "elsewhere"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "PG_VERSION").write_text("15")
    (folder / "data" / "PG_VERSION").chmod(0o600)
    (tmp_path / "elsewhere.part").mkdir()  # of a move that was cut short
    postgres_home.move(folder, target)
    assert mode(target / "data" / "PG_VERSION") == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere"]


def test_a_cluster_that_cannot_be_moved_stays(tmp_path):
    folder = tmp_path / "postgres"
    folder.mkdir()
    with pytest.raises(postgres_home.Failed, match="could not be moved"):
        postgres_home.move(folder, tmp_path / "missing" / "elsewhere")
    assert folder.is_dir()


def test_a_cluster_of_our_own_user_stays_in_the_state_folder(tmp_path):
    assert postgres_home.locate(tmp_path, None) == tmp_path / "postgres"


def test_a_cluster_of_another_user_lives_outside_and_is_found_again(tmp_path, monkeypatch):
    monkeypatch.setattr(postgres_home, "CLUSTERS", tmp_path / "lib")
    state = tmp_path / "state"
    (state / "postgres").mkdir(parents=True)
    (state / "postgres" / "PG_VERSION").write_text("15")
    home = postgres_home.locate(state, "postgres")
    assert (mode(tmp_path / "lib"), home.parent) == (0o711, tmp_path / "lib")
    assert (home / "PG_VERSION").read_text() == "15"
    assert postgres_home.locate(state, "postgres") == home
    postgres_home.delete_data(state)
    assert not home.exists()


def test_a_service_journal_is_closed_by_the_umask_of_its_process(tmp_path):
    before = os.umask(private.UMASK)
    uploads = UploadJournal(tmp_path)
    uploads.opening(ObjectRef("inbox", "secret-plans"))
    os.umask(before)
    uploads.close()
    assert {mode(path) for path in (tmp_path / "uploads", *(tmp_path / "uploads").iterdir())} == {0o700, 0o600}

import os

import pytest

from services.cli.adapters import files
from services.cli.core.usage import WrongUsage
from shared.errors import Rejected


def test_folders_are_walked_and_only_regular_files_are_taken(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "a").write_text("1")
    (tmp_path / "deep" / "b").write_text("22")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    found = {file.name: file.size for file in files.find((f"{tmp_path}/",))}
    assert found == {"a": 1, "deep/b": 2, "link": 1}


def test_a_source_that_is_not_there_is_named(tmp_path):
    with pytest.raises(WrongUsage, match="is not there"):
        list(files.find((str(tmp_path / "nowhere"),)))


def test_a_file_that_became_shorter_is_refused(tmp_path):
    (tmp_path / "a").write_text("123")
    assert files.read(tmp_path / "a", 1, 2) == b"23"
    with pytest.raises(Rejected, match="changed while it was read"):
        files.read(tmp_path / "a", 2, 2)

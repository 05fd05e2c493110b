import os

import pytest

from services.cli.adapters import files
from services.cli.core.usage import UsageError
from shared.errors import Rejected


def test_find_walks_folders_and_yields_only_regular_files(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "a").write_text("1")
    (tmp_path / "deep" / "b").write_text("22")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    found = {file.name: file.size for file in files.find((f"{tmp_path}/",))}
    assert found == {"a": 1, "deep/b": 2, "link": 1}


def test_missing_source_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        list(files.find((str(tmp_path / "nowhere"),)))


async def test_file_that_became_shorter_is_rejected(tmp_path):
    (tmp_path / "a").write_text("123")
    assert await files.read(tmp_path / "a", 1, 2) == b"23"
    with pytest.raises(Rejected, match="changed while it was read"):
        await files.read(tmp_path / "a", 2, 2)


@pytest.mark.parametrize("size", [0, 1, 4, 5, 9])
async def test_chunks_are_the_file_in_order(tmp_path, size):
    (tmp_path / "a").write_bytes(b"123456789"[:size])
    chunks = [chunk async for chunk in files.chunks(tmp_path / "a", 0, size, chunk_bytes=4)]
    assert b"".join(chunks) == b"123456789"[:size] == await files.read(tmp_path / "a", 0, size)
    assert all(len(chunk) == 4 for chunk in chunks[:-1])

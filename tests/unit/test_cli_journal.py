import pytest

from services.cli.adapters.journal import Entry, Journal, Stamp
from services.cli.core.address import Address
from shared.errors import Rejected

ADDRESS = Address("inbox", "a\u2028b")
ENTRY = Entry(ADDRESS.bucket, ADDRESS.key, Stamp(3, 17), upload_id="u1")
COMMAND = ["/tmp/a", "s3://inbox/"]  # noqa: S108 - a name only


def test_same_command_finds_the_entries_of_a_killed_one(tmp_path):
    with Journal(tmp_path, COMMAND) as journal:
        journal.record(ENTRY)
    with Journal(tmp_path, COMMAND) as journal:
        assert journal.find(ADDRESS) == ENTRY
    with Journal(tmp_path, ["another"]) as journal:
        assert journal.is_empty


def test_partial_line_is_ignored(tmp_path):
    with Journal(tmp_path, COMMAND) as journal:
        journal.record(ENTRY)
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text() + '{"bucket": "inb')
    with Journal(tmp_path, COMMAND) as journal:
        journal.record(Entry("inbox", "b", Stamp(1, 1), etag="e"))
    with Journal(tmp_path, COMMAND) as journal:
        assert journal.find(ADDRESS) == ENTRY
        assert journal.find(Address("inbox", "b")) is not None


def test_running_upload_rejects_the_same_command(tmp_path):
    with Journal(tmp_path, COMMAND), pytest.raises(Rejected, match="is running"), Journal(tmp_path, COMMAND):
        pass


def test_remove_leaves_no_file(tmp_path):
    with Journal(tmp_path, COMMAND) as journal:
        journal.record(ENTRY)
        journal.remove()
    assert list(tmp_path.iterdir()) == []

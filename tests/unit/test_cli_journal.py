import pytest

from services.cli.adapters.journal import Entry, Journal, Stamp
from services.cli.core.address import Address
from shared.errors import Rejected

ADDRESS = Address("inbox", "a\u2028b")
ENTRY = Entry(ADDRESS.bucket, ADDRESS.key, Stamp(3, 17), upload_id="u1")
WORDS = ["/tmp/a", "s3://inbox/"]  # noqa: S108 - a name only


def test_the_same_command_finds_what_was_noted_even_when_it_was_killed(tmp_path):
    with Journal(tmp_path, WORDS) as journal:
        journal.note(ENTRY)
    with Journal(tmp_path, WORDS) as journal:
        assert journal.find(ADDRESS) == ENTRY
    with Journal(tmp_path, ["another"]) as journal:
        assert journal.is_empty


def test_half_a_line_is_no_entry_and_spoils_no_other(tmp_path):
    with Journal(tmp_path, WORDS) as journal:
        journal.note(ENTRY)
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text() + '{"bucket": "inb')
    with Journal(tmp_path, WORDS) as journal:
        journal.note(Entry("inbox", "b", Stamp(1, 1), etag="e"))
    with Journal(tmp_path, WORDS) as journal:
        assert journal.find(ADDRESS) == ENTRY
        assert journal.find(Address("inbox", "b")) is not None


def test_one_upload_runs_once_at_a_time(tmp_path):
    with Journal(tmp_path, WORDS), pytest.raises(Rejected, match="runs already"), Journal(tmp_path, WORDS):
        pass


def test_nothing_is_left_once_everything_is_stored(tmp_path):
    with Journal(tmp_path, WORDS) as journal:
        journal.note(ENTRY)
        journal.forget_all()
    assert list(tmp_path.iterdir()) == []

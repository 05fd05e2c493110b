"""etl processes start, die, freeze and race: table and output files still equal the bucket."""

import random
import secrets
import time

import pytest

from shared.topics import ETL_COMPLETED
from tests.support import uploads
from tests.support.uploads import image, one_row, pair
from tests.support.waiting import until

pytestmark = pytest.mark.faults

USERS = [str(number) for number in range(1000, 1100)]
MANY = 100_000
"""Rows of a table whose files take a while to write."""


@pytest.fixture
def chance():
    seed = secrets.randbits(32)
    print(f"\nseed {seed}")
    return random.Random(seed)


def pairs_of(people):
    return [upload for user in people for upload in pair(user)]


def replaced(people):
    """Return the same users with other rows and images."""
    chance = random.Random(2)
    return [upload for user in people for upload in (one_row(user, uploads.person(user, chance)), image(user, seed=1))]


def test_processes_and_concurrent_loads_agree_with_bucket_during_uploads(users, tables, chance):
    users.serve(4)
    everything = pairs_of(USERS)
    chance.shuffle(everything)
    with users.uploading(everything, threads=4):
        loads = [users.ask_for_load() for _ in range(3)]
    tables.over()
    assert [users.loaded(load)["state"] for load in loads] == ["succeeded"] * 3
    assert sorted(tables.judge()) == USERS
    published = [fact.body["load_id"] for fact in users.facts(ETL_COMPLETED.name)]
    assert set(loads) <= set(published)


def test_table_equals_bucket_after_kills_during_load(users, tables, chance):
    """ingest is stopped, so that only the load finds the objects."""
    people = [str(number) for number in range(600)]
    names = users.serve(2, etl_slice=50)
    with users.system.without("ingest"):
        assert len(users.put_all(pairs_of(people))) == 2 * len(people)
        load = users.ask_for_load()
        for _ in range(4):
            time.sleep(chance.uniform(0.0, 1.5))  # a random moment, not a wait
            victim = chance.choice(names)
            users.system.stack.kill(victim)
            users.system.stack.start(victim)
        row = users.loaded(load)
        assert (row["state"], row["listed"]) == ("succeeded", 2 * len(people))
        until(lambda: len(users.table("1")) == len(people), 10, lambda: len(users.table("1")))
    tables.over()
    assert len(tables.judge()) == len(people)


def test_table_equals_bucket_after_kills_during_changes(users, tables, chance):
    names = users.serve(2)
    for each in range(4):
        with_change = [pairs_of, replaced][each % 2](USERS)
        chance.shuffle(with_change)
        with users.uploading(with_change, threads=4):
            time.sleep(chance.uniform(0.0, 1.0))  # a random moment, not a wait
            victim = chance.choice(names)
            users.system.stack.kill(victim)
        users.remove(*(f"{user}.csv" for user in USERS[each::5]))
        users.system.stack.start(victim)
    tables.over()
    before = tables.judge()
    assert len(before) == len(USERS) - len(USERS[3::5])


def test_output_files_are_complete_after_kill_during_write(users, tables, chance):
    users.serve()
    users.put(uploads.many_rows("many", {f"m{number}": uploads.person(str(number)) for number in range(MANY)}))
    until(lambda: len(users.table("1")) == MANY, 120, lambda: len(users.table("1")))
    for each in range(3):
        users.put(one_row(f"{each}"))
        writer_of(users)
        time.sleep(chance.uniform(0.0, 0.5))  # a random moment, not a wait
        users.system.stack.kill("etl")
        users.system.stack.start("etl")
    tables.over()
    assert len(tables.judge()) == MANY + 3


def test_frozen_writer_does_not_overwrite_newer_file(users, tables, chance):
    users.serve(2)
    users.put(uploads.many_rows("many", {f"m{number}": uploads.person(str(number)) for number in range(MANY)}))
    until(lambda: users.output("csv") is not None and not tables.unsettled(), 120, tables.unsettled)
    for each in range(2):
        users.put(one_row(f"first{each}"))
        sleeper = writer_of(users)
        time.sleep(chance.uniform(0.0, 0.3))  # a random moment, not a wait
        users.system.stack.pause(sleeper)
        users.put(one_row(f"second{each}"))
        until(lambda: not tables.differing(), 60, tables.differing)
        users.system.stack.resume(sleeper)
        until(lambda: not tables.unsettled(), 60, tables.unsettled)
        stays(lambda: not tables.differing(), 5, tables.differing)
    tables.over()
    tables.judge()


def test_frozen_process_does_not_undo_changes(users, tables):
    sleeper, _ = users.serve(2)
    users.put_all(pairs_of(USERS))
    users.system.stack.pause(sleeper)
    users.put_all(replaced(USERS))
    users.remove(*(f"{user}.csv" for user in USERS[::3]))
    until(lambda: not tables.differing(), 90, tables.differing)  # the group gives its partitions to the other
    users.system.stack.resume(sleeper)
    tables.over()
    tables.judge()
    stays(lambda: not tables.differing(), 4, tables.differing)


def writer_of(users):
    """Wait for a process that writes output files; return it."""
    return until(lambda: users.holder("etl.exports"), 30, "nobody writes the files")


def stays(condition, seconds, what):
    """Assert that a condition holds for this long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert condition(), what() if callable(what) else what
        time.sleep(0.2)


def test_changed_dataset_declaration_reloads_table(users, tables):
    """Includes large files whose work items are already done."""
    limits = {"etl_large_bytes": 1000, "etl_slice": 10}
    users.serve(2, **limits)
    many = {f"m{number}": uploads.person(str(number)) for number in range(100)}
    users.put(uploads.many_rows("many", many), *pairs_of(USERS[:10]))
    tables.judge()
    users.stop()
    text = users.datasets.read_text("utf-8")
    users.datasets.write_text(text.replace("1900-01-01", "1800-01-01"), "utf-8")
    users.serve(2, **limits)
    tables.over()
    assert len(tables.judge()) == len(many) + 10


def test_process_frozen_during_large_file_neither_blocks_nor_undoes_others(users, tables):
    users.serve(2)
    users.put(uploads.many_rows("many", {f"m{number}": uploads.person(str(number)) for number in range(MANY)}))
    sleeper = until(lambda: users.holder("etl.files"), 30, "nobody loads the file")
    users.system.stack.pause(sleeper)
    users.put(one_row("1"), uploads.many_rows("many", {"m0": uploads.person("0"), "m1": uploads.person("other")}))
    until(lambda: not tables.differing(), 120, tables.differing)
    users.system.stack.resume(sleeper)
    tables.over()
    assert len(tables.judge()) == 3
    stays(lambda: not tables.differing(), 4, tables.differing)

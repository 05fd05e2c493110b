"""Etl processes that start, die, freeze and race: table and files end up equal to the bucket."""

import random
import secrets
import time

import pytest

from shared.topics import ETL_COMPLETED
from tests.support import drops
from tests.support.drops import image, one_row, pair
from tests.support.waiting import until

pytestmark = pytest.mark.faults

PEOPLE = [str(number) for number in range(1000, 1100)]
MANY = 100_000
"""Rows of a table whose files take some time to write."""


@pytest.fixture
def chance():
    seed = secrets.randbits(32)
    print(f"\nseed {seed}")
    return random.Random(seed)


def pairs_of(people):
    return [drop for user in people for drop in pair(user)]


def replaced(people):
    """Return new rows and images for the same users."""
    chance = random.Random(2)
    return [drop for user in people for drop in (one_row(user, drops.person(user, chance)), image(user, seed=1))]


def test_four_processes_and_three_loads_during_uploads(users, tables, chance):
    users.serve(4)
    everything = pairs_of(PEOPLE)
    chance.shuffle(everything)
    with users.dropping(everything, threads=4):
        loads = [users.ask_for_load() for _ in range(3)]
    tables.over()
    assert [users.loaded(load)["state"] for load in loads] == ["succeeded"] * 3
    assert sorted(tables.judge()) == PEOPLE
    told = [fact.body["load_id"] for fact in users.facts(ETL_COMPLETED.name)]
    assert set(loads) <= set(told)


def test_load_survives_processes_killed_at_random_moments(users, tables, chance):
    """With ingest stopped, only the load finds the files."""
    people = [str(number) for number in range(600)]
    names = users.serve(2, etl_slice=50)
    with users.world.without("ingest"):
        assert len(users.put_all(pairs_of(people))) == 2 * len(people)
        load = users.ask_for_load()
        for _ in range(4):
            time.sleep(chance.uniform(0.0, 1.5))  # a random moment, not a wait
            victim = chance.choice(names)
            users.world.stack.kill(victim)
            users.world.stack.start(victim)
        row = users.loaded(load)
        assert (row["state"], row["listed"]) == ("succeeded", 2 * len(people))
        until(lambda: len(users.table("1")) == len(people), 10, lambda: len(users.table("1")))
    tables.over()
    assert len(tables.judge()) == len(people)


def test_processes_killed_while_files_are_added_changed_and_removed(users, tables, chance):
    names = users.serve(2)
    for each in range(4):
        with_change = [pairs_of, replaced][each % 2](PEOPLE)
        chance.shuffle(with_change)
        with users.dropping(with_change, threads=4):
            time.sleep(chance.uniform(0.0, 1.0))  # a random moment, not a wait
            victim = chance.choice(names)
            users.world.stack.kill(victim)
        users.remove(*(f"{user}.csv" for user in PEOPLE[each::5]))
        users.world.stack.start(victim)
    tables.over()
    wanted = tables.judge()
    assert len(wanted) == len(PEOPLE) - len(PEOPLE[3::5])


def test_process_killed_while_writing_the_files(users, tables, chance):
    users.serve()
    users.put(drops.many_rows("many", {f"m{number}": drops.person(str(number)) for number in range(MANY)}))
    until(lambda: len(users.table("1")) == MANY, 120, lambda: len(users.table("1")))
    for each in range(3):
        users.put(one_row(f"{each}"))
        writer_of(users)
        time.sleep(chance.uniform(0.0, 0.5))  # a random moment, not a wait
        users.world.stack.kill("etl")
        users.world.stack.start("etl")
    tables.over()
    assert len(tables.judge()) == MANY + 3


def test_writer_resumed_after_another_write_overwrites_nothing(users, tables, chance):
    users.serve(2)
    users.put(drops.many_rows("many", {f"m{number}": drops.person(str(number)) for number in range(MANY)}))
    until(lambda: users.output("csv") is not None and not tables.unsettled(), 120, tables.unsettled)
    for each in range(2):
        users.put(one_row(f"first{each}"))
        sleeper = writer_of(users)
        time.sleep(chance.uniform(0.0, 0.3))  # a random moment, not a wait
        users.world.stack.pause(sleeper)
        users.put(one_row(f"second{each}"))
        until(lambda: not tables.differing(), 60, tables.differing)
        users.world.stack.resume(sleeper)
        until(lambda: not tables.unsettled(), 60, tables.unsettled)
        stays(lambda: not tables.differing(), 5, tables.differing)
    tables.over()
    tables.judge()


def test_process_resumed_after_changes_reverts_none(users, tables):
    sleeper, _ = users.serve(2)
    users.put_all(pairs_of(PEOPLE))
    users.world.stack.pause(sleeper)
    users.put_all(replaced(PEOPLE))
    users.remove(*(f"{user}.csv" for user in PEOPLE[::3]))
    until(lambda: not tables.differing(), 90, tables.differing)  # the group reassigns its partitions
    users.world.stack.resume(sleeper)
    tables.over()
    tables.judge()
    stays(lambda: not tables.differing(), 4, tables.differing)


def writer_of(users):
    """Wait for a process that writes the files; return its name."""
    return until(lambda: users.holder("etl.exports"), 30, "nobody writes the files")


def stays(condition, seconds, what):
    """Assert that `condition` holds for `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert condition(), what() if callable(what) else what
        time.sleep(0.2)


def test_changed_dataset_declaration_reloads_all_files(users, tables):
    """Reload large files too, although their work has succeeded before."""
    limits = {"etl_large_bytes": 1000, "etl_slice": 10}
    users.serve(2, **limits)
    many = {f"m{number}": drops.person(str(number)) for number in range(100)}
    users.put(drops.many_rows("many", many), *pairs_of(PEOPLE[:10]))
    tables.judge()
    users.stop()
    text = users.datasets.read_text("utf-8")
    users.datasets.write_text(text.replace("1900-01-01", "1800-01-01"), "utf-8")
    users.serve(2, **limits)
    tables.over()
    assert len(tables.judge()) == len(many) + 10


def test_process_paused_within_a_large_file_blocks_no_other_and_reverts_nothing(users, tables):
    users.serve(2)
    users.put(drops.many_rows("many", {f"m{number}": drops.person(str(number)) for number in range(MANY)}))
    sleeper = until(lambda: users.holder("etl.files"), 30, "nobody loads the file")
    users.world.stack.pause(sleeper)
    users.put(one_row("1"), drops.many_rows("many", {"m0": drops.person("0"), "m1": drops.person("other")}))
    until(lambda: not tables.differing(), 120, tables.differing)
    users.world.stack.resume(sleeper)
    tables.over()
    assert len(tables.judge()) == 3
    stays(lambda: not tables.differing(), 4, tables.differing)

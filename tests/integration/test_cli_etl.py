"""`penstock etl` against real servers and services."""

import uuid

import pytest

from services.cli.commands.etl_run import require_success
from services.etl.adapters.schema import ensure_schema, ensure_tables
from services.etl.core.datasets import Datasets
from shared.errors import Rejected
from shared.events import EtlCompleted
from shared.postgres import open_pool
from shared.settings import Settings
from tests.support.console import Console
from tests.support.topics import run
from tests.support.waiting import until

pytestmark = pytest.mark.integration

GOOD = b"first_name, last_name, birthts\nAda, Byron, 473385600000\n"
BAD = b"first_name, last_name, birthts\nAda, , 473385600000\n"


@pytest.fixture
def console(stack, tmp_path):
    return Console(stack.env, tmp_path, ("etl",))


@pytest.fixture
def declared(users, stack):
    """A dataset in the views while no etl runs."""

    async def declare():
        dsn = Settings(postgres_dsn=stack.env["PENSTOCK_POSTGRES_DSN"]).postgres_dsn
        await ensure_schema(dsn)
        async with open_pool(dsn, service="test") as pool:
            await ensure_tables(pool, Datasets.parse(users.datasets.read_text("utf-8")))

    users.stop()
    run(declare())
    return users


def test_run_prints_counts_and_outputs(console, users):
    users.serve()
    users.system.put("1.csv", GOOD, bucket="src-data")
    until(users.table, 30, "the row")
    found = console.json("run", users.dataset, "--timeout", "60")
    assert (found["dataset"], found["listed"], found["changed"], found["removed"]) == (users.dataset, 1, 0, 0)
    assert f"processed-data/{users.stem}.csv" in found["outputs"]
    out, _ = console.run("run", users.dataset)
    assert "1 object in the bucket" in out
    assert "changed 0   removed 0" in out


def test_rejects_shows_reasons_until_the_file_is_corrected(console, users):
    users.serve()
    users.system.put("1.csv", BAD, bucket="src-data")
    until(users.rejects, 30, "the reject")
    found = console.json("rejects", users.dataset)
    (reject,) = found["rejects"]
    assert (found["rows"], found["files"]) == (1, 1)
    assert (reject["key"], reject["row"], reject["column"]) == (f"{users.system.prefix}1.csv", 2, "last_name")
    for name in (reject["key"], f"src-data/{reject['key']}", f"s3://src-data/{reject['key']}"):
        assert console.json("rejects", "--file", name)["rejects"] == [reject]
    out, _ = console.run("rejects", users.dataset)
    assert reject["reason"] in " ".join(out.split())
    users.system.put("1.csv", GOOD, bucket="src-data")
    until(lambda: not users.rejects(), 30, "the rejects are cleared")
    assert console.json("rejects", users.dataset) == {"rows": 0, "files": 0, "rejects": []}
    assert console.run("rejects", users.dataset)[0] == "no rejected rows\n"


def test_status_shows_datasets_and_last_loads(console, users):
    users.serve()
    users.system.put("1.csv", GOOD, bucket="src-data")
    load_id = console.json("run", users.dataset, "--no-wait")["load_id"]
    assert users.loaded(load_id)["state"] == "succeeded"

    def mine():
        found = console.json("status", "--limit", "50")
        return next(one for one in found["datasets"] if one["name"] == users.dataset), found["loads"]

    until(lambda: mine()[0]["is_behind"] is False and mine()[0]["rows"] == 1, 30, lambda: str(mine()))
    one, loads = mine()
    assert (one["files"], one["images"], one["rejected"]) == (1, 0, 0)
    assert load_id in {load["load_id"] for load in loads if load["dataset"] == users.dataset}
    out, _ = console.run("status", "--limit", "50")
    assert users.dataset in out
    assert "succeeded" in out


def test_run_of_unknown_dataset_is_a_usage_error_that_names_the_known_ones(console, declared):
    _, err = console.run("run", "usrs", code=2)
    assert "there is no dataset usrs" in err
    assert declared.dataset in err


def test_run_without_etl_times_out_in_one_line(console, declared):
    _, err = console.run("run", declared.dataset, "--timeout", "1", code=1)
    assert "is etl running" in err
    assert err.count("\n") == 1


def test_status_shows_the_progress_of_a_running_load(console, declared):
    load_id = uuid.uuid4().hex
    declared.system.database.rows(
        "INSERT INTO etl.loads (load_id, dataset, why, state, started_at, correlation_id)"
        " VALUES ($1, $2, 'test', 'running', now(), '')",
        load_id,
        declared.dataset,
    )
    declared.system.database.rows(
        "INSERT INTO work.items (queue, key, payload, state, lease_until, progress)"
        " VALUES ('etl.loads', $1, '{}', 'running', now() + interval '1 hour', $2)",
        f"{load_id}/{declared.dataset}",
        '{"done": 0.25, "message": "25% of 8 objects read"}',
    )
    (mine,) = (one for one in console.json("status", "--limit", "50")["loads"] if one["load_id"] == load_id)
    assert mine["progress"]["done"] == 0.25
    assert "25% of 8 objects read" in console.run("status", "--limit", "50")[0]
    declared.system.database.rows("DELETE FROM work.items WHERE queue = 'etl.loads' AND starts_with(key, $1)", load_id)


def test_run_of_failing_load_prints_its_error(console, declared):
    running = console.start("run", declared.dataset)
    (request_fact,) = until(lambda: declared.facts("etl.requested.v1"), 30, "the request")
    declared.system.database.rows(
        "INSERT INTO etl.loads (load_id, dataset, why, state, error, correlation_id)"
        " VALUES ($1, $2, 'test', 'failed', 'the disk of x is on fire', '')",
        request_fact.body["load_id"],
        declared.dataset,
    )
    _, err = running.communicate(timeout=30)
    assert running.returncode == 1
    assert "the disk of x is on fire" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", [["status"], ["rejects"], ["run"]])
def test_commands_without_views_say_that_etl_has_never_run(console, system, words):
    name = f"empty_{uuid.uuid4().hex[:8]}"
    system.database.rows(f'CREATE DATABASE "{name}"')
    dsn = system.stack.env["PENSTOCK_POSTGRES_DSN"].rpartition("/")[0] + f"/{name}"
    try:
        _, err = console.run(*words, code=1, PENSTOCK_POSTGRES_DSN=dsn)
    finally:
        system.database.rows(f'DROP DATABASE "{name}"')
    assert "etl has never run" in err
    assert "make up" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", [["status"], ["rejects"], ["run"]])
def test_commands_without_database_print_one_line(console, words, unused_tcp_port):
    _, err = console.run(*words, code=1, PENSTOCK_POSTGRES_PORT=str(unused_tcp_port))
    assert f"Postgres at 127.0.0.1:{unused_tcp_port}" in err
    assert err.count("\n") == 1


def test_dataset_with_a_failed_object_has_the_state_failed(console, declared):
    declared.system.database.rows(
        "INSERT INTO etl.sources (bucket, key, dataset, kind, failure, failed_at)"
        " VALUES ('src-data', $1, $2, 'rows', 'the object could not be loaded: nobody foresaw it', now())",
        f"{declared.system.prefix}1.csv",
        declared.dataset,
    )
    (one,) = (one for one in console.json("status")["datasets"] if one["name"] == declared.dataset)
    assert (one["state"], one["failed"], one["error"]) == ("failed", 1, "")
    assert "failed: 1 object" in " ".join(console.run("status")[0].split())
    found = console.json("rejects", declared.dataset)
    assert [(one["row"], one["code"]) for one in found["rejects"]] == [(0, "LOAD_FAILED")]
    assert "nobody foresaw it" in found["rejects"][0]["reason"]


def test_refused_dataset_is_shown_with_its_reason_and_cannot_be_run(console, declared):
    reason = f"datasets: [{declared.dataset}] columns.ctid: call it something else"
    declared.system.database.rows("INSERT INTO etl.refused VALUES ($1, $2)", declared.dataset, reason)
    try:
        (one,) = (one for one in console.json("status")["datasets"] if one["name"] == declared.dataset)
        assert (one["state"], one["error"]) == ("refused", reason)
        assert reason in " ".join(console.run("status")[0].split())
        _, err = console.run("run", declared.dataset, code=1)
        assert reason in " ".join(err.split())
    finally:
        declared.system.database.rows("DELETE FROM etl.refused WHERE name = $1", declared.dataset)


def test_require_success_raises_the_error_of_a_failed_load():
    fact = EtlCompleted(
        load_id="x",
        dataset="users",
        listed=1,
        changed=0,
        removed=0,
        rows=0,
        rejected=0,
        outputs=(),
        seconds=0.1,
        state="failed",
        error="the disk is on fire",
    )
    with pytest.raises(Rejected, match="load x of users failed: the disk is on fire"):
        require_success(fact)

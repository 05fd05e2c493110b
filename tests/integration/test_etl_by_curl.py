"""The documented calls of the former users ETL, by curl: from PUT to table and output file."""

import csv
import io
import json
import subprocess
from datetime import UTC, date, datetime, time

import pytest

from tests.support import ingress
from tests.support.etl import Users
from tests.support.system import running_system
from tests.support.uploads import COLUMNS, HEAD, Upload, image
from tests.support.waiting import until

pytestmark = pytest.mark.integration


def born(years, days=0):
    """Return the birth in UTC milliseconds of a person of this age, plus days."""
    today = datetime.now(UTC).date()
    day = date.fromordinal(today.replace(year=today.year - years, day=min(today.day, 28)).toordinal() + days)
    return int(datetime.combine(day, time(), UTC).timestamp() * 1000)


PEOPLE = {"1000": ("Ada", "Lovelace", 36), "1001": ("Alan", "Turing", 41), "1002": ("Grace", "O'Hopper", 85)}
WITH_IMAGE = ("1000", "1002")


@pytest.fixture(scope="module")
def users(stack, stopped_at_the_end, tmp_path_factory):  # noqa: ARG001 - they end after this
    with running_system(stack, {}) as system:
        users = Users(system, tmp_path_factory.mktemp("datasets"), "users", "output")
        ingress.serve(system)
        users.serve()
        yield users
        users.stop()


@pytest.fixture(scope="module")
def curl(users):
    def call(path, *words):
        address = f"{users.system.stack.env['PENSTOCK_HTTP_URL']}{path}"
        token = users.system.stack.env["PENSTOCK_TOKEN"]
        command = ("curl", "-sS", "-w", "\n%{http_code}", "-H", f"Authorization: Bearer {token}", *words, address)
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        body, _, status = said.rpartition("\n")
        return int(status), json.loads(body)

    return call


@pytest.fixture(scope="module")
def loaded(users):
    """Wait for three users, two of them with an image."""
    rows = {user: (first, last, born(age)) for user, (first, last, age) in PEOPLE.items()}
    for user, row in rows.items():
        users.put(Upload(f"{user}.csv", f"{HEAD}{', '.join(map(str, row))}\n".encode(), {user: row}))
    users.put(*(image(user) for user in WITH_IMAGE))
    until(lambda: sum(bool(row["img_path"]) for row in users.table("img_path")) == 2, 30, users.table)
    until(lambda: len(users.table()) == 3, 30, users.table)
    return rows


def test_data_returns_object_keyed_by_user(users, curl, loaded):
    status, data = curl("/data")
    assert status == 200
    assert data == {
        user: {
            "first_name": first,
            "last_name": last,
            "birthts": str(birthts),
            "img_path": f"src-data/{users.system.prefix}{user}.png" if user in WITH_IMAGE else "",
        }
        for user, (first, last, birthts) in loaded.items()
    }


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("is_image_exists=True", {"1000", "1002"}),
        ("is_image_exists=False", {"1001"}),
        ("min_age=36", {"1000", "1001", "1002"}),
        ("min_age=37", {"1001", "1002"}),
        ("max_age=41", {"1000", "1001"}),
        ("max_age=40", {"1000"}),
        ("min_age=41&max_age=41", {"1001"}),
        ("is_image_exists=True&min_age=37&max_age=90", {"1002"}),
        ("min_age=86", set()),
        ("min_age=35.0", set()),
        ("min_age=35.5", set()),
        ("max_age=-1", set()),
        ("min_age=41&max_age=36", set()),
        ("max_age=500", {"1000", "1001", "1002"}),
    ],
)
@pytest.mark.usefixtures("loaded")
def test_filters_combine_with_inclusive_bounds(curl, question, found):
    status, data = curl(f"/data?{question}")
    assert (status, set(data)) == (200, found)


@pytest.mark.parametrize("question", ["min_age=old", "max_age=-1x", "is_image_exists=perhaps"])
@pytest.mark.usefixtures("loaded")
def test_invalid_filter_values_are_rejected(curl, question):
    status, problem = curl(f"/data?{question}")
    assert status == 422
    assert question.partition("=")[0] in json.dumps(problem)


def test_requested_load_can_be_polled(users, curl, loaded):
    status, answer = curl("/data", "-X", "POST")
    assert status == 202
    assert users.loaded(answer["load_id"])["state"] == "succeeded"
    status, row = curl(f"/data/loads/{answer['load_id']}")
    assert (status, row["state"]) == (200, "succeeded")
    status, data = curl("/data")
    assert (status, len(data)) == (200, len(loaded))


@pytest.mark.usefixtures("loaded")
def test_stats_apply_same_filters(curl):
    status, stats = curl("/stats")
    assert status == 200
    assert 54.0 in stats.values(), "the average of 36, 41 and 85"
    assert {3, 2, 1} <= {value for value in stats.values() if isinstance(value, int)}
    status, some = curl("/stats?max_age=41&is_image_exists=true")
    assert status == 200
    assert 36.0 in some.values()


def test_output_csv_matches_contract(users, loaded):
    def written():
        body = users.output("csv")
        return body and list(csv.reader(io.StringIO(body.decode(), newline="")))

    expected = [
        list(COLUMNS),
        *(
            [user, first, last, str(birthts), f"src-data/{users.system.prefix}{user}.png" if user in WITH_IMAGE else ""]
            for user, (first, last, birthts) in loaded.items()
        ),
    ]
    until(lambda: written() == expected, 30, written)

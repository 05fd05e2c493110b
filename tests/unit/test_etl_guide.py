"""The guide agrees with the code: example dataset, keys, types, extensions and reject codes."""

import re

import pytest

from deploy.native.install import CHECKOUT
from services.etl.core.datasets import Column, Dataset, Datasets, format_of
from services.etl.settings import EtlSettings

GUIDE = (CHECKOUT / "docs/etl.md").read_text()


def told_in(heading: str) -> set[str]:
    """Return the code spans in the first column of the table with this heading."""
    rows = GUIDE.split(heading)[1].split("\n\n")[0].splitlines()
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1] if "|" in row else "")}


def test_guide_example_parses_beside_shipped_datasets():
    (example,) = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)
    shipped = EtlSettings().etl_datasets.read_text("utf-8")
    dataset, kind = Datasets.parse(shipped + example).claim("inbox", "samples/S-17.csv")
    assert (dataset.name, kind) == ("samples", "rows")


def test_guide_lists_every_key_and_type():
    assert told_in("| Key | Required | Meaning |") == set(Dataset.model_fields) - {"name"}
    types = Column.model_fields["type"].annotation.__args__
    assert told_in("| Type | Takes |") == set(types)


@pytest.mark.parametrize("ending", sorted(told_in("| Name ends in | Rows |")))
def test_every_extension_in_guide_is_claimed(ending):
    assert format_of(f"1000{ending}") or Datasets.parse(EtlSettings().etl_datasets.read_text()).claim(
        "src-data", f"1000{ending}"
    )


def test_every_reject_code_in_guide_exists():
    rows = GUIDE.split("| What | Example | Rejects | Code |")[1].split("\n\n")[0].splitlines()[2:]
    told = {code for row in rows for code in re.findall(r"`([A-Z0-9_]+)`", row.rsplit("|", 2)[1])}
    code = "".join(path.read_text() for path in (CHECKOUT / "services/etl").rglob("*.py"))
    assert len(told) > len(rows)
    assert {one for one in told if f'"{one}"' not in code} == set()

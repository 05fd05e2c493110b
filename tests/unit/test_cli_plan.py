import pytest

from services.cli.adapters.plan import UploadPlan, split_paths
from services.cli.core.address import Address
from services.cli.core.usage import UsageError

TARGET = Address("inbox", "x")


def test_last_path_is_the_target():
    assert split_paths(("a", "b", "s3://inbox/x")) == (("a", "b"), TARGET)


@pytest.mark.parametrize("words", [(), ("s3://inbox",), ("a", "b")])
def test_files_and_a_target_are_required(words):
    with pytest.raises(UsageError):
        split_paths(words)


def test_two_files_with_the_same_object_are_a_usage_error(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.py").write_text(folder)
    with pytest.raises(UsageError, match=r"would both become s3://inbox/x/x\.py"):
        UploadPlan((str(tmp_path / "a" / "x.py"), str(tmp_path / "b" / "x.py")), TARGET).measure()
    assert UploadPlan((str(tmp_path),), TARGET).measure() == (2, 2)


def test_as_key_requires_one_file(tmp_path):
    (tmp_path / "a").write_text("1")
    plan = UploadPlan((str(tmp_path / "a"),), TARGET, as_key=True)
    assert plan.measure() == (1, 1)
    assert [address for _, address in plan.pairs()] == [TARGET]
    (tmp_path / "b").write_text("1")
    with pytest.raises(UsageError, match="--as-key"):
        UploadPlan((str(tmp_path),), TARGET, as_key=True).measure()


def test_empty_folder_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="no files"):
        UploadPlan((str(tmp_path),), TARGET).measure()

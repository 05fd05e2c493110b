import pytest

from services.cli.adapters.plan import Plan, paths_of
from services.cli.core.address import Address
from services.cli.core.usage import WrongUsage

TARGET = Address("inbox", "x")


def test_the_last_word_is_the_target():
    assert paths_of(("a", "b", "s3://inbox/x")) == (("a", "b"), TARGET)


@pytest.mark.parametrize("words", [(), ("s3://inbox",), ("a", "b")])
def test_files_and_a_target_are_needed(words):
    with pytest.raises(WrongUsage):
        paths_of(words)


def test_two_files_never_become_one_object(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.py").write_text(folder)
    with pytest.raises(WrongUsage, match=r"would both become s3://inbox/x/x\.py"):
        Plan((str(tmp_path / "a" / "x.py"), str(tmp_path / "b" / "x.py")), TARGET).measure()
    assert Plan((str(tmp_path),), TARGET).measure() == (2, 2)


def test_a_key_of_its_own_is_for_one_file(tmp_path):
    (tmp_path / "a").write_text("1")
    plan = Plan((str(tmp_path / "a"),), TARGET, as_key=True)
    assert plan.measure() == (1, 1)
    assert [address for _, address in plan.pairs()] == [TARGET]
    (tmp_path / "b").write_text("1")
    with pytest.raises(WrongUsage, match="--as-key"):
        Plan((str(tmp_path),), TARGET, as_key=True).measure()


def test_an_empty_folder_is_said(tmp_path):
    with pytest.raises(WrongUsage, match="no files"):
        Plan((str(tmp_path),), TARGET).measure()

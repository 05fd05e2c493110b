"""How full a disk is, as `df` says it."""

import shutil
from types import SimpleNamespace

import pytest

from services.ingress.adapters.disk import Disk
from services.ingress.core.problems import HttpProblem

# 100 GB of which 5 are reserved for root: df shows Use% 47 of 95
RESERVED = shutil._ntuple_diskusage(100 << 30, 45 << 30, 50 << 30)


@pytest.fixture
def disk(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: RESERVED)
    return Disk(SimpleNamespace(disk_path="/", disk_usage_threshold=90.0))


def test_blocks_reserved_for_root_are_neither_used_nor_free(disk):
    assert disk.used() == pytest.approx(100 * 45 / 95, abs=0.01)


def test_threshold_counts_as_df_does(disk):
    disk.refuse_when_full(40 << 30)
    with pytest.raises(HttpProblem, match="95 % full"):
        disk.refuse_when_full(45 << 30)

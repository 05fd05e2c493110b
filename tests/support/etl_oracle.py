"""What must be true of tables after every fault: bucket, table, files, rejects and facts all say the same."""

import csv as cells
import io
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

from shared.topics import ETL_LOADED
from tests.support import uploads
from tests.support.etl import BUCKET, OUTPUTS, Users
from tests.support.oracle import Oracle, lags_of
from tests.support.uploads import COLUMNS, Expected, Stored
from tests.support.waiting import until

SHOWN = 10


@dataclass
class TableOracle:
    """Judges one dataset; made before the fault. `oracle` judges the same objects as every other service sees them."""

    users: Users
    oracle: Oracle

    def over(self) -> None:
        """Note that the fault is over."""
        self.oracle.over()

    def judge(self, *, within: float = 90) -> Expected:
        """Wait until all that there is says what the bucket implies; return the table."""
        until(lambda: not self.unsettled(), within, self.unsettled)
        self.oracle.judge(within=within)
        self.judge_facts()
        return uploads.expected(BUCKET, self.users.stored())

    def unsettled(self) -> list[str]:
        """Name some of what is not as the bucket implies, or what is still to be read or written."""
        found = [*self.differing(), *self._behind()]
        return found or [f"lag {lags}" for lags in [lags_of(self.users.system)] if lags]

    def differing(self) -> list[str]:
        """Name some of what is not as the bucket implies."""
        stored = self.users.stored()
        expected = uploads.expected(BUCKET, stored)
        return [
            *_differences("table", expected, self.table()),
            *_differences("csv", _guarded(expected), self.csv()),
            *_differences("parquet", expected, self.parquet()),
            *_differences("pictures", uploads.images(stored), self._images()),
            *_differences("rejects", uploads.rejected(stored), self._rejects()),
            *_differences("rejects files", uploads.rejected(stored), self._rejects_files()),
        ]

    def judge_facts(self) -> None:
        """Every source was told as the bucket has it, and nothing is told as both right and wrong."""
        wrong = list(self._wrong_facts(self.users.stored()))
        assert not wrong, wrong[:SHOWN]

    def table(self) -> dict[str, Any]:
        """Return what the view says."""
        rows = self.users.table(", ".join(COLUMNS))
        return _by_user([tuple(row) for row in rows], "table")

    def _images(self) -> dict[str, Any]:
        question = """
            SELECT key, content_type, width, height FROM etl.images JOIN etl.sources ON id = source_id
            WHERE images.dataset = $1
        """
        rows = self.users.system.database.rows(question, self.users.dataset)
        return {row["key"]: tuple(row)[1:] for row in rows}

    def csv(self) -> dict[str, Any]:
        """Return what the file of cells holds."""
        body = self.users.output("csv")
        if body is None:
            return {"there is": "no file"}
        head, *rows = cells.reader(io.StringIO(body.decode(), newline=""))
        assert tuple(head) == COLUMNS, head
        return _by_user([(user, first, last, int(birthts), path) for user, first, last, birthts, path in rows], "csv")

    def parquet(self) -> dict[str, Any]:
        """Return what the file of columns holds."""
        body = self.users.output("parquet")
        if body is None:
            return {"there is": "no file"}
        frame = pl.read_parquet(io.BytesIO(body))
        assert tuple(frame.columns[: len(COLUMNS)]) == COLUMNS, frame.columns
        return _by_user(frame.select(pl.col(COLUMNS)).with_columns(pl.col("img_path").fill_null("")).rows(), "parquet")

    def _rejects(self) -> dict[str, Any]:
        found = defaultdict(list)
        for row in self.users.rejects():
            assert row["code"], dict(row)
            assert row["reason"], dict(row)
            found[row["key"]].append(row["row"])
        return found

    def _rejects_files(self) -> dict[str, Any]:
        folder = f"rejects/{self.users.dataset}/"
        pages = self.users.system.s3.get_paginator("list_objects_v2").paginate(Bucket=OUTPUTS, Prefix=folder)
        keys = [one["Key"] for page in pages for one in page.get("Contents", ())]
        return {key.removeprefix(folder).removesuffix(".csv"): self._rejected_lines(key) for key in keys}

    def _rejected_lines(self, key: str) -> list[int]:
        text = (self.users.written(key) or b"").decode()
        return sorted(int(row["row"]) for row in cells.DictReader(io.StringIO(text, newline="")))

    def _behind(self) -> Iterator[str]:
        exports = self.users.exports()
        if exports is None or exports["written"] < exports["changed"]:
            yield f"files are behind: {exports and dict(exports)}"
        elif exports["rows"] != (held := len(self.users.table("1"))):
            yield f"files are said to have {exports['rows']} rows, the table has {held}"

    def _wrong_facts(self, stored: list[Stored]) -> Iterator[str]:
        published = defaultdict(set)
        removed = set()
        for fact in self.users.facts(ETL_LOADED.name):
            body = fact.body
            if body["change"] == "stored":
                published[body["key"], body["etag"]].add((body["rows"], body["rejected"], bool(body["reason"])))
            else:
                removed.add(body["key"])
        etags = self.users.etags()
        for key, _, upload in stored:
            right = (len(upload.rows), len(upload.rejected), bool(upload.rejected))
            if published[key, etags[key]] != {right}:
                yield f"{key} was told as {published[key, etags[key]]}, not {right}"
        for key in {key for key, _ in published} - set(etags) - removed:
            yield f"{key} is gone and was never told so"


def _guarded(expected: Expected) -> dict[str, Any]:
    return {
        uploads.guarded(user): (uploads.guarded(first), uploads.guarded(last), birthts, uploads.guarded(path))
        for user, (first, last, birthts, path) in expected.items()
    }


def _by_user(rows: list[tuple[Any, ...]], where: str) -> dict[str, Any]:
    twice = [user for user, times in Counter(row[0] for row in rows).items() if times > 1]
    assert not twice, f"{where}: {twice[:SHOWN]} more than once"
    return {row[0]: row[1:] for row in rows}


def _differences(where: str, expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    keys = [key for key in {**expected, **found} if expected.get(key) != found.get(key)]
    shown = [f"{where}: {key} is {found.get(key)}, not {expected.get(key)}" for key in keys[:SHOWN]]
    return [*shown, f"{where}: {len(keys)} differ"] if len(keys) > SHOWN else shown

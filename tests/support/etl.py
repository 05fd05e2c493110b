"""The etl of a running stack, with a dataset of its own for each world."""

import hashlib
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any, Final

from shared.events import EtlRequested
from shared.storage.objects import PAGE_SIZE
from tests.support.system import STORE_ERRORS, SystemUnderTest
from tests.support.uploads import Stored, Upload
from tests.support.waiting import until

BUCKET: Final = "src-data"
OUTPUTS: Final = "processed-data"
LEASE_SECONDS: Final = 4.0
SECTION: Final = """
[{name}]
bucket = "src-data"
prefix = "{prefix}"
key = "user_id"
images = ["png", "jpg", "jpeg", "webp", "gif"]
output = "{output}"
born = "birthts"

[{name}.columns]
first_name = {{ type = "text", required = true }}
last_name = {{ type = "text", required = true }}
birthts = {{ type = "milliseconds", required = true, min = 1900-01-01, max = "today" }}
"""


def datasets_file(folder: Path, system: SystemUnderTest, name: str, output: str) -> Path:
    """Write a file of one dataset, which claims all that is stored under the test's prefix."""
    file = folder / "datasets.toml"
    file.write_text(SECTION.format(name=name, prefix=system.prefix, output=output), "utf-8")
    return file


@dataclass
class Users:
    """A world whose objects are users: what was stored, and what the tables say of it."""

    system: SystemUnderTest
    folder: Path
    dataset: str = ""
    """Of its own, unless a test asks for another."""
    stem: str = ""
    """What the files of the whole table are called."""
    uploads: dict[tuple[str, str], Upload] = field(default_factory=dict)
    """By key and etag, acknowledged or not."""

    def __post_init__(self) -> None:
        self.dataset = self.dataset or f"u{self.system.prefix.strip('/')}"
        self.stem = self.stem or self.dataset
        self.datasets = datasets_file(self.folder, self.system, self.dataset, self.stem)

    def serve(self, processes: int = 1, **settings: object) -> list[str]:
        """Let so many processes of etl run; return their names."""
        usual = {"etl_datasets": self.datasets, "etl_interval": "0", "etl_lease_seconds": LEASE_SECONDS}
        return [self.system.serve("etl", number + 1, **(usual | settings)) for number in range(processes)]

    def stop(self) -> None:
        """Let no process of etl run."""
        self.system.stop(*(name for name in self.system.stack.processes if name.partition("-")[0] == "etl"))

    def put(self, *uploads: Upload) -> None:
        """Store objects one after the other; remembered before they are sent."""
        for upload in uploads:
            etag = hashlib.md5(upload.body, usedforsecurity=False).hexdigest()
            self.uploads[self.system.prefix + upload.name, etag] = upload
            self.system.put(upload.name, upload.body, bucket=BUCKET)

    def put_all(self, uploads: Iterable[Upload], *, threads: int = 16) -> set[str]:
        """Store many at a time; return the names that were acknowledged."""
        with ThreadPoolExecutor(threads) as pool:
            return {name for name in pool.map(self._put_or_not, uploads) if name is not None}

    def _put_or_not(self, upload: Upload) -> str | None:
        with suppress(*STORE_ERRORS):
            self.put(upload)
            return upload.name
        return None

    @contextmanager
    def uploading(self, uploads: Iterable[Upload], *, threads: int = 16) -> Iterator[set[str]]:
        """Store objects beside the block; after it, the set given holds the names that were acknowledged."""
        acknowledged: set[str] = set()
        thread = Thread(target=lambda: acknowledged.update(self.put_all(uploads, threads=threads)))
        thread.start()
        try:
            yield acknowledged
        finally:
            thread.join()

    def remove(self, *names: str) -> None:
        """Remove objects."""
        for name in names:
            self.system.delete(name, bucket=BUCKET)

    def stored(self) -> list[Stored]:
        """Return what the bucket holds, by its own word."""
        pages = self.system.s3.get_paginator("list_objects_v2").paginate(
            Bucket=BUCKET, Prefix=self.system.prefix, PaginationConfig={"PageSize": PAGE_SIZE}
        )
        listed = [one for page in pages for one in page.get("Contents", ())]
        return [
            (one["Key"], int(one["LastModified"].timestamp()), self.uploads[one["Key"], one["ETag"].strip('"')])
            for one in listed
        ]

    def etags(self) -> dict[str, str]:
        """Return the etag of all that the bucket holds, by key."""
        pages = self.system.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=self.system.prefix)
        return {one["Key"]: one["ETag"].strip('"') for page in pages for one in page.get("Contents", ())}

    def output(self, ending: str) -> bytes | None:
        """Read a file that holds the whole table; None: it is not there."""
        return self.written(f"{self.stem}.{ending}")

    def written(self, key: str) -> bytes | None:
        """Read an object that etl writes; None: it is not there."""
        try:
            return bytes(self.system.s3.get_object(Bucket=OUTPUTS, Key=key)["Body"].read())
        except self.system.s3.exceptions.NoSuchKey:
            return None

    def output_etags(self) -> dict[str, str]:
        """Return the etags of the files that hold the whole table."""
        listed = self.system.s3.list_objects_v2(Bucket=OUTPUTS, Prefix=f"{self.stem}.").get("Contents", ())
        return {one["Key"]: one["ETag"] for one in listed}

    def table(self, what: str = "*") -> list[Any]:
        """Ask the view; empty while nobody has made it."""
        made = self.system.database.rows("SELECT to_regclass($1) AS view", f'api."{self.dataset}"')
        return self.system.database.rows(f'SELECT {what} FROM api."{self.dataset}"') if made[0]["view"] else []  # noqa: S608

    def ask_for_load(self) -> str:
        """Ask for a full load; return its id."""
        request = EtlRequested(load_id=f"test-{uuid.uuid4().hex}", dataset=self.dataset)
        self.system.kafka.send(request.topic.name, request.model_dump_json().encode(), request.record_key.encode())
        return request.load_id

    def load(self, load_id: str) -> Any:
        """Return the row of a load; None while nobody knows of it."""
        rows = self.system.database.rows("SELECT * FROM api.loads WHERE load_id = $1", load_id)
        return rows[0] if rows else None

    def loaded(self, load_id: str, within: float = 60) -> Any:
        """Return the row of a load once it is over."""

        def over() -> Any:
            row = self.load(load_id)
            return row if row is not None and row["finished_at"] is not None else None

        return until(over, within, lambda: f"load {load_id}: {self.load(load_id)}")

    def facts(self, topic: str) -> list[Any]:
        """Return the facts of `topic` about this dataset."""
        return [one for one in self.system.kafka.read(topic) if one.body.get("dataset") == self.dataset]

    def rejects(self) -> list[Any]:
        """Return the rows of the view of what was rejected."""
        question = "SELECT * FROM api.rejects WHERE dataset = $1 ORDER BY key, row"
        return self.system.database.rows(question, self.dataset)

    def holder(self, queue: str) -> str | None:
        """Name the process that holds this dataset's work of a queue; None: nobody does."""
        question = """
            SELECT worker FROM api.work
            WHERE queue = $1 AND state = 'running' AND (key || payload::text) LIKE '%' || $2 || '%'
        """
        pids = [row["worker"].split(":")[1] for row in self.system.database.rows(question, queue, self.dataset)]
        names = [name for name in self.system.stack.processes if str(self.system.stack.pid(name)) in pids]
        return names[0] if names else None

    def exports(self) -> Any:
        """Return how far the files are behind."""
        question = "SELECT * FROM etl.exports WHERE dataset = $1"
        rows = self.system.database.rows(question, self.dataset)
        return rows[0] if rows else None

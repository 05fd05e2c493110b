"""The system under test: a running stack, and a client that remembers what it stored."""

import contextlib
import hashlib
import json
import random
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Thread
from typing import Any, Literal

from blake3 import blake3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from deploy.native.servers import NAMES
from deploy.native.stack import Stack
from shared.events import SweepRequested
from tests.support.database import Database
from tests.support.s3 import s3_client
from tests.support.topics import Kafka
from tests.support.waiting import until

ObjectKey = tuple[str, str]
DEFAULT_DIGESTS = ("md5", "sha256", "blake3")
ANY_ETAG = ""
"""Of a body whose etag its client does not know: the ingress cuts it into parts as it comes."""
STORE_ERRORS = (BotoCoreError, ClientError)
_CONFIG = Config(retries={"total_max_attempts": 1}, max_pool_connections=300, connect_timeout=5, read_timeout=120)


def body_of(key: str, size: int = 4096) -> bytes:
    """Return the bytes that belong to a key: the same at every call."""
    return random.Random(key).randbytes(size)


def digests_of(body: bytes, algorithms: Iterable[str] = DEFAULT_DIGESTS) -> dict[str, str]:
    """Return digests of `body` as hashlib, or blake3's own module, has them."""
    made = {name: blake3() if name == "blake3" else hashlib.new(name, usedforsecurity=False) for name in algorithms}
    for digest in made.values():
        digest.update(body)
    return {name: digest.hexdigest() for name, digest in made.items()}


@dataclass
class SystemUnderTest:
    """One test's view of a stack: a prefix of its own, and everything it ever tried to store under it."""

    stack: Stack
    settings: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """Of services, as `serve` gives them to every process."""
    prefix: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:10]}/")
    bodies: dict[ObjectKey, dict[str, bytes]] = field(default_factory=lambda: defaultdict(dict))
    """By object key and etag, acknowledged or not."""
    requested_digests: dict[ObjectKey, tuple[str, ...]] = field(default_factory=dict)
    """Which digests, by object key, where not the default ones."""
    put_counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """How often bucket, key and etag were sent: no version can be published more often than it was stored."""

    def __post_init__(self) -> None:
        env = self.stack.env
        self.kafka, self.database = Kafka(env), Database(env["PENSTOCK_POSTGRES_DSN"])
        self.s3: Any = s3_client(env, _CONFIG)

    def close(self) -> None:
        """Let go of connections."""
        self.s3.close()

    def put(self, name: str, body: bytes | None = None, *, bucket: str = "inbox", **options: Any) -> Any:
        """Store `body` (or the key's own bytes) under the prefix; remembered before it is sent."""
        key = self.prefix + name
        body = body_of(key) if body is None else body
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        self.bodies[bucket, key][etag] = body
        self.put_counts[bucket, key, etag] += 1
        if request := options.get("Metadata", {}).get("penstock-digests"):
            self.requested_digests[bucket, key] = tuple(request.split(","))
        return self.s3.put_object(Bucket=bucket, Key=key, Body=body, **options)

    def put_all(self, names: Iterable[str], *, threads: int = 16) -> set[str]:
        """Store many; return the names that were acknowledged."""
        with ThreadPoolExecutor(threads) as pool:
            return {name for name in pool.map(self._put_or_not, names) if name is not None}

    def _put_or_not(self, name: str) -> str | None:
        with contextlib.suppress(*STORE_ERRORS):
            self.put(name)
            return name
        return None

    def delete(self, name: str, *, bucket: str = "inbox", **options: Any) -> Any:
        """Remove an object under the prefix."""
        return self.s3.delete_object(Bucket=bucket, Key=self.prefix + name, **options)

    def digest(self, name: str, *, bucket: str = "inbox") -> Any:
        """Return the row of `api.digests`; None while there is none."""
        question = "SELECT * FROM api.digests WHERE bucket = $1 AND key = $2"
        rows = self.database.rows(question, bucket, self.prefix + name)
        assert len(rows) <= 1, rows
        return rows[0] if rows else None

    def object_row(self, name: str, *, bucket: str = "inbox") -> Any:
        """Return the row of `api.objects`; None while there is none."""
        question = "SELECT * FROM api.objects WHERE bucket = $1 AND key = $2"
        rows = self.database.rows(question, bucket, self.prefix + name)
        return rows[0] if rows else None

    def hashed(self, name: str, status: str = "succeeded", *, bucket: str = "inbox", within: float = 60) -> Any:
        """Return the digests' row once it has this status and belongs to what the bucket holds now."""

        def row() -> Any:
            found = self.digest(name, bucket=bucket)
            return found if found is not None and found["status"] == status else None

        return until(row, within, lambda: f"{name} {status}: {self.digest(name, bucket=bucket)}")

    def facts(self, topic: str, name: str = "", *, bucket: str = "inbox") -> list[Any]:
        """Return the facts of `topic` about one object, or about all under the prefix."""
        record_key = f"{bucket}/{self.prefix}{name}".encode()
        keyed = [(fact.key or b"", fact) for fact in self.kafka.read(topic)]
        return [fact for key, fact in keyed if key == record_key or (not name and key.startswith(record_key))]

    def sweep(self, *, within: float = 60) -> Any:
        """Ask for a sweep of the prefix and return its row of `api.sweeps` once it is done."""
        request = SweepRequested(sweep_id=f"test-{uuid.uuid4().hex}", prefix=self.prefix)
        self.kafka.send(request.topic.name, request.model_dump_json().encode(), request.record_key.encode())
        question = "SELECT * FROM api.sweeps WHERE sweep_id = $1 AND finished_at IS NOT NULL"
        return until(lambda: self.database.rows(question, request.sweep_id), within, "the sweep")[0]

    def serve(self, service: str, instance: int = 1, **settings: object) -> str:
        """Let a process of a service run with exactly these settings (PENSTOCK_ left out); return its name."""
        name = service if instance == 1 else f"{service}-{instance}"
        request = {**self.settings.get(service, {}), **settings}
        env = {f"PENSTOCK_{word.upper()}": str(value) for word, value in request.items()}
        running = self.stack.processes.get(name)
        if running is not None and running.running:
            if running.program.env.get(_MARK) == _mark(env):
                return name
            self.stack.stop(name)
        return self.stack.start_service(service, instance, {**env, _MARK: _mark(env)})

    def stop(self, *names: str) -> None:
        """Stop processes, those that were never started included."""
        for name in names:
            if name in self.stack.processes:
                self.stack.stop(name)

    @contextlib.contextmanager
    def without(self, *names: str, end: Literal["stop", "kill"] = "stop") -> Iterator[None]:
        """Have these processes stopped, or killed, for a while."""
        for name in names:
            getattr(self.stack, end)(name)
        try:
            yield
        finally:
            for name in names:
                self.stack.start(name)

    @contextlib.contextmanager
    def uploading(self, names: Iterable[str], *, threads: int = 16) -> Iterator[set[str]]:
        """Store objects beside the block; after it, the set given holds the names that were acknowledged."""
        acknowledged: set[str] = set()
        thread = Thread(target=lambda: acknowledged.update(self.put_all(names, threads=threads)))
        thread.start()
        try:
            yield acknowledged
        finally:
            thread.join()


@contextlib.contextmanager
def running_system(stack: Stack, settings: Mapping[str, Mapping[str, object]]) -> Iterator[SystemUnderTest]:
    """Yield a system in which all servers, ingest and hasher run, whatever an earlier test has left behind."""
    for server in NAMES:
        stack.start(server)
    system = SystemUnderTest(stack, settings)
    system.serve("ingest")
    system.serve("hasher")
    try:
        yield system
    finally:
        system.close()


@contextlib.contextmanager
def rules_removed(system: SystemUnderTest, bucket: str) -> Iterator[None]:
    """Remove the notification rules of `bucket` for the block, then restore them."""
    rules = system.s3.get_bucket_notification_configuration(Bucket=bucket)
    notifications = {name: value for name, value in rules.items() if name != "ResponseMetadata"}
    system.s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
    try:
        yield
    finally:
        system.s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=notifications)


_MARK = "PENSTOCK_TEST_SETTINGS"


def _mark(env: Mapping[str, str]) -> str:
    return json.dumps(env, sort_keys=True)

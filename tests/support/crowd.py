"""Many clients at a time, some of them slow on purpose, and what the ingress says of itself meanwhile."""

import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from threading import Event, Thread

import httpx

from tests.support import ingress
from tests.support.system import SystemUnderTest
from tests.support.wire import head


@contextmanager
def token(system: SystemUnderTest, name: str, *scopes: str) -> Iterator[str]:
    """Give the text of a token of these scopes, revoked after the block."""
    with ingress.client(system) as root:
        made = root.post("/tokens", json={"name": f"{name}-{time.time_ns()}", "scopes": scopes}).json()
        try:
            yield made["token"]
        finally:
            root.delete(f"/tokens/{made['id']}")


def metric(system: SystemUnderTest, name: str, **labels: str) -> float:
    """Return a metric of the ingress as it was within the last second; 0 while it has no value."""
    with ingress.client(system, None) as stranger:
        text = stranger.get("/metrics").text
    selector = "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}" if labels else ""
    pattern = rf"^{re.escape(name + selector)} (\S+)$"
    found = re.search(pattern, text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def connect(system: SystemUnderTest, *, source: str = "127.0.0.1", receive: int = 0) -> socket.socket:
    """Open a line from an address of this machine; with `receive`, so many bytes wait in it at most."""
    address = httpx.URL(system.stack.env["PENSTOCK_HTTP_URL"])
    line = socket.socket()
    if receive:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    line.bind((source, 0))
    line.settimeout(60)
    line.connect((address.host, address.port))
    return line


def ask(system: SystemUnderTest, text: str, method: str, path: str, length: int | None = None, **headers: str) -> bytes:
    """Write the head of a request of a token."""
    return head(system, method, path, length, Authorization=f"Bearer {text}", **headers)


@contextmanager
def dripping(lines: Mapping[socket.socket, bytes], every: float) -> Iterator[None]:
    """Send one byte after the other on many lines, until the block ends."""
    over = Event()

    def drip() -> None:
        sent = dict.fromkeys(lines, 0)
        while not over.wait(every):
            for line, body in lines.items():
                at = sent[line]
                try:
                    line.send(body[at : at + 1])
                except OSError:
                    continue
                sent[line] = at + 1

    thread = Thread(target=drip)
    thread.start()
    with ExitStack() as ended:
        for line in lines:
            ended.callback(line.close)
        try:
            yield
        finally:
            over.set()
            thread.join()

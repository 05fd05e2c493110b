"""HTTP as bytes on a line, for what no client would send."""

import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from json import loads
from typing import Any

import httpx

from tests.support.system import SystemUnderTest

BOUNDARY = "a-boundary"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read as JSON."""
        return loads(self.body)


def connect(system: SystemUnderTest, timeout: float = 30) -> socket.socket:
    """Open a line to the ingress."""
    address = httpx.URL(system.stack.env["PENSTOCK_HTTP_URL"])
    return socket.create_connection((address.host, address.port), timeout)


def head(system: SystemUnderTest, method: str, path: str, length: int | None, **headers: str) -> bytes:
    """Write the head of a request of the operator's."""
    named = {
        "Host": "127.0.0.1",
        "Authorization": f"Bearer {system.stack.env['PENSTOCK_TOKEN']}",
        **({} if length is None else {"Content-Length": str(length)}),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items()), "", ""]
    return "\r\n".join(lines).encode()


def read(line: socket.socket) -> Answer:
    """Read one answer up to the length it says, or to the end of the line."""
    got = b""
    while b"\r\n\r\n" not in got:
        piece = line.recv(65536)
        assert piece, f"the line ended after {got!r}"
        got += piece
    first, body = got.split(b"\r\n\r\n", 1)
    status, headers = first.split(b"\r\n", 1)
    fields = BytesParser().parsebytes(headers + b"\r\n\r\n")
    while len(body) < int(fields["content-length"]):
        body += line.recv(65536)
    return Answer(int(status.split()[1]), fields, body)


def is_closed(line: socket.socket) -> bool:
    """Tell whether the other side has closed the line."""
    line.settimeout(0.2)
    try:
        return line.recv(65536) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def drip(line: socket.socket, pieces: Iterable[bytes], every: float) -> None:
    """Send a little at a time, as long as the line takes it."""
    for piece in pieces:
        try:
            line.sendall(piece)
        except ConnectionError:
            return
        time.sleep(every)  # the slowness is what is tested


def part(name: str, filename: str | bytes | None, body: bytes) -> bytes:
    """Write one part of a form; a filename goes as it is."""
    raw = filename.encode() if isinstance(filename, str) else filename
    fields = b"" if raw is None else b'; filename="' + raw + b'"'
    disposition = b'Content-Disposition: form-data; name="' + name.encode() + b'"' + fields
    return b"--" + BOUNDARY.encode() + b"\r\n" + disposition + b"\r\n\r\n" + body + b"\r\n"


def form(*parts: bytes) -> bytes:
    """Write a whole form."""
    return b"".join(parts) + b"--" + BOUNDARY.encode() + b"--\r\n"

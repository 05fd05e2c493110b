"""An address that webhooks lead to: a small HTTP server in a thread, which remembers what it got."""

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError


@dataclass(frozen=True)
class Delivery:
    """One request, and what it was answered."""

    headers: Mapping[str, str]
    body: bytes
    status: int

    @property
    def fact(self) -> dict[str, Any]:
        return dict(json.loads(self.body))

    def is_signed_with(self, secret: str) -> bool:
        """Return whether the reference verifier of Standard Webhooks accepts it, and now: not after five minutes."""
        try:
            Webhook(secret).verify(self.body, dict(self.headers))
        except WebhookVerificationError:
            return False
        return True

    def has_former_signature_of(self, secret: str) -> bool:
        """Return whether `penstock-signature` is keyed with the text `secret`."""
        parts = dict(part.split("=", 1) for part in self.headers["penstock-signature"].split(","))
        signed = hmac.new(secret.encode(), f"{parts['t']}.".encode() + self.body, hashlib.sha256).hexdigest()
        return hmac.compare_digest(signed, parts["v1"])


@dataclass
class Receiver:
    """`answers` are given one by one, then always `otherwise`."""

    url: str
    answers: list[int] = field(default_factory=list)
    otherwise: int = 204
    retry_after: str = ""
    """What answers with 429 and 503 ask for."""
    deliveries: list[Delivery] = field(default_factory=list)

    def taken(self, prefix: str = "") -> list[dict[str, Any]]:
        """Return the facts that were answered with yes, those about keys under `prefix`."""
        facts = [one.fact for one in self.deliveries if one.status < 300]
        return [fact for fact in facts if (fact["key"] or "").startswith(prefix)]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Say nothing of a client that was killed."""


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Serve inside the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status = receiver.answers.pop(0) if receiver.answers else receiver.otherwise
            receiver.deliveries.append(Delivery({n.lower(): v for n, v in self.headers.items()}, body, status))
            self.send_response(status)
            if status // 100 == 3:
                self.send_header("location", "/elsewhere")
            if status in {429, 503} and receiver.retry_after:
                self.send_header("retry-after", receiver.retry_after)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with _Server(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(f"http://127.0.0.1:{server.server_address[1]}/hook?secret=1")
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()

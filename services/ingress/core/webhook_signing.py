"""Sign webhook deliveries as Standard Webhooks 1.0 requires.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from typing import Any, Final

from shared.events import stable_id

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - how a secret begins
WEBHOOK_ID_PREFIX: Final = "wh_"
"""Ids of webhooks of earlier versions lack it; the secrets of these were shown in another spelling."""
MESSAGE_ID_PREFIX: Final = "msg_"


def new_webhook_id() -> str:
    """Return the id of a new webhook."""
    return WEBHOOK_ID_PREFIX + secrets.token_hex(8)


def derive_secret(key: bytes, webhook_id: str) -> str:
    """Return the secret of a webhook: `whsec_` and 32 bytes in base64; derived from `key`, so it is stored nowhere."""
    digest = hmac.digest(key, f"webhook:{webhook_id}".encode(), hashlib.sha256)
    return SECRET_PREFIX + base64.b64encode(digest).decode()


def message_id(payload: Mapping[str, Any]) -> str:
    """Return the id of a fact, the same in every delivery of it.

    Event ids are unique within a topic and may come from clients. A hash of both is unique, and has no full stop, which
    separates the parts of the signed content.
    """
    return MESSAGE_ID_PREFIX + stable_id(payload["topic"], payload["event_id"])


def delivery_body(payload: Mapping[str, Any]) -> bytes:
    """Return the body of a delivery: the rendered fact as JSON."""
    return json.dumps(payload, separators=(",", ":"), default=str).encode()


def delivery_headers(payload: Mapping[str, Any], body: bytes, secret: str, now: int) -> dict[str, str]:
    """Return the headers of a delivery attempt at `now`, in seconds since 1970."""
    message = message_id(payload)
    return {
        "content-type": "application/json",
        "user-agent": "penstock",
        "webhook-id": message,
        "webhook-timestamp": str(now),
        "webhook-signature": signature(secret, message, now, body),
        "penstock-event-id": str(payload["event_id"]).encode("ascii", "backslashreplace").decode(),
        "penstock-event-type": str(payload["type"]).encode("ascii", "backslashreplace").decode(),
    }


def signature(secret: str, message: str, now: int, body: bytes) -> str:
    """Return `v1,<base64>`: the HMAC-SHA256 of `<message>.<now>.<body>` with the decoded secret as key."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    signed = hmac.digest(key, f"{message}.{now}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(signed).decode()}"


# The signature of versions before Standard Webhooks: to be removed in the next version, with WEBHOOK_ID_PREFIX.


def former_headers(webhook_id: str, body: bytes, secret: str, now: int) -> dict[str, str]:
    """Return `penstock-signature: t=<seconds>,v1=<hex>`; its key is the text of the secret, as it was shown."""
    shown = secret if webhook_id.startswith(WEBHOOK_ID_PREFIX) else former_spelling(secret)
    signed = hmac.digest(shown.encode(), f"{now}.".encode() + body, hashlib.sha256).hex()
    return {"penstock-signature": f"t={now},v1={signed}"}


def former_spelling(secret: str) -> str:
    """Return the secret as earlier versions showed it: in URL-safe base64 without padding."""
    return SECRET_PREFIX + secret.removeprefix(SECRET_PREFIX).translate(str.maketrans("+/", "-_")).rstrip("=")

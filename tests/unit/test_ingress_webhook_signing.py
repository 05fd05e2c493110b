"""Deliveries are signed as Standard Webhooks requires; its reference verifier accepts them."""

import base64
import hashlib
import hmac
import json
import re
import time
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from deploy.native.install import CHECKOUT
from services.ingress.core.fact_rendering import render_fact
from services.ingress.core.facts import Fact
from services.ingress.core.webhook_signing import (
    delivery_body,
    delivery_headers,
    derive_secret,
    former_headers,
    former_spelling,
    message_id,
    new_webhook_id,
    signature,
)

NOW = datetime(2026, 1, 2, tzinfo=UTC)
KEYS = [bytes([number]) * 32 for number in range(1, 30)]
"""So many that their secrets contain every character in which the two base64 alphabets differ."""
SECRET = derive_secret(KEYS[0], "wh_1")
EXAMPLES = re.findall(r"```python\n(.*?)```", (CHECKOUT / "docs/ingress.md").read_text(), re.DOTALL)


def rendered(topic="objects.changed.v1", event_id="e", **changes):
    return render_fact(Fact(topic, 0, 0, event_id, "objects.changed.v1", NOW, bucket="inbox", key="mine/ü", **changes))


def delivery(secret=SECRET, now=None, **changes):
    payload = rendered(**changes)
    body = delivery_body(payload)
    return body, delivery_headers(payload, body, secret, int(time.time()) if now is None else now)


def documented(name):
    """Return a function of the guide."""
    (example,) = (one for one in EXAMPLES if f"def {name}(" in one)
    defined = {}
    exec(example, defined)  # noqa: S102 - the guide's own example
    return defined[name]


def test_signature_equals_the_published_example():
    secret, message = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek"
    expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert signature(secret, message, 1614265330, b'{"test": 2432232314}') == expected


@pytest.mark.parametrize("key", KEYS)
def test_reference_verifier_accepts_a_delivery(key):
    secret = derive_secret(key, "wh_1")
    body, headers = delivery(secret)
    assert Webhook(secret).verify(body, headers) == json.loads(body)


@pytest.mark.parametrize("changed", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_reference_verifier_refuses_a_changed_header(changed):
    body, headers = delivery()
    _, others = delivery(now=int(time.time()) - 5, event_id="other")
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body, headers | {changed: others[changed]})


def test_reference_verifier_refuses_a_changed_body_an_old_time_and_another_secret():
    body, headers = delivery()
    with pytest.raises(WebhookVerificationError, match="signature"):
        Webhook(SECRET).verify(body + b" ", headers)
    with pytest.raises(WebhookVerificationError, match="signature"):
        Webhook(derive_secret(KEYS[0], "wh_2")).verify(body, headers)
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(SECRET).verify(*delivery(now=int(time.time()) - 600))


def test_documented_verifier_returns_the_fact():
    body, headers = delivery()
    assert documented("verified_fact")(body, headers, SECRET)["key"] == "mine/ü"


@pytest.mark.parametrize("key", KEYS)
def test_documented_conversion_of_a_former_secret_gives_the_standard_one(key):
    secret = derive_secret(key, "0123456789abcdef")
    assert documented("standard_secret")(former_spelling(secret)) == secret


def test_former_header_is_keyed_with_the_secret_as_it_was_shown():
    key = hmac.digest(KEYS[0], b"webhook:0123456789abcdef", hashlib.sha256)
    shown = "whsec_" + base64.urlsafe_b64encode(key).decode().rstrip("=")
    secret = derive_secret(KEYS[0], "0123456789abcdef")
    assert former_headers("0123456789abcdef", b"{}", secret, 7) == {"penstock-signature": former_signature(shown)}
    assert former_headers(new_webhook_id(), b"{}", SECRET, 7) == {"penstock-signature": former_signature(SECRET)}


def former_signature(shown):
    return "t=7,v1=" + hmac.new(shown.encode(), b"7.{}", hashlib.sha256).hexdigest()


def test_each_webhook_has_its_own_secret_of_32_bytes():
    secrets = [derive_secret(key, webhook_id) for key in KEYS[:2] for webhook_id in ("wh_1", "wh_2")]
    assert len({*secrets}) == 4
    assert secrets[0] == derive_secret(KEYS[0], "wh_1")
    assert {len(base64.b64decode(one.removeprefix("whsec_"), validate=True)) for one in secrets} == {32}


def test_message_id_is_the_same_in_every_delivery_of_a_fact():
    assert message_id(rendered()) == message_id(json.loads(delivery_body(rendered())))


def test_message_ids_of_two_topics_differ():
    ids = {message_id(rendered(topic=f"{name}.v1.dlq", event_id="0/7")) for name in ("a", "b")}
    assert len(ids) == 2


@pytest.mark.parametrize("event_id", ["e", "a.1700000000.{}", "ü\n", "\ud800", "x" * 5000])
def test_message_id_fits_a_header_and_has_no_full_stop(event_id):
    assert re.fullmatch("msg_[0-9a-f]{32}", message_id({"topic": "t", "event_id": event_id}))


def test_delivery_headers_repeat_id_and_type_of_the_body():
    body, headers = delivery()
    fact = json.loads(body)
    assert (fact["event_id"], fact["type"]) == (headers["penstock-event-id"], headers["penstock-event-type"])


def test_non_ascii_event_id_gives_a_valid_header():
    headers = delivery_headers({"topic": "t", "event_id": "ü", "type": "\N{SNOWMAN}"}, b"", SECRET, 0)
    assert all(value.isascii() for value in headers.values())

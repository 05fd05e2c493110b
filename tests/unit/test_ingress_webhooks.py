"""Webhooks: which facts they receive, when they retry, and which addresses are refused."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from services.ingress.adapters.deliveries import in_turn, parsed
from services.ingress.core.fact_filter import FactFilter
from services.ingress.core.fact_rendering import render_fact
from services.ingress.core.facts import Fact
from services.ingress.core.targets import is_public
from services.ingress.core.webhooks import Webhook, describe, requested_delay, retry_delay, synthetic_fact
from shared.errors import Rejected

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def hook(**changes):
    made = {"id": "1", "url": "https://x/", "fact_filter": FactFilter(), "prefixes": (), "cursor": 0}
    return Webhook(**{**made, "created_by": "root", "token_id": "root", "created_at": NOW, **changes})


def fact(key="mine/a", **changes):
    return Fact("t", 0, 0, "e", "objects.changed.v1", NOW, bucket="inbox", key=key, **changes)


def test_description_holds_no_secret():
    assert "secret" not in json.dumps(describe(hook()), default=str)


def test_waits_grow_up_to_an_hour():
    waits = [retry_delay(failures, 1.0).total_seconds() for failures in (1, 2, 3, 4, 7, 8, 1000)]
    assert waits == [1, 4, 16, 64, 3600, 3600, 3600]


BUSY_UNTIL = {
    "120": 120,
    " 7 ": 7,
    "0": 1,
    "999999": 3600,
    "9" * 5000: 3600,
    "Fri, 02 Jan 2026 00:01:00 GMT": 60,
    "Fri, 02 Jan 2026 00:01:00 -0000": 60,
    "Friday, 02-Jan-26 00:01:00 GMT": 60,
    "Thu, 01 Jan 2026 00:00:00 GMT": 1,
    "Fri, 02 Jan 2099 00:00:00 GMT": 3600,
    "": None,
    "soon": None,
    "-5": None,
    "1.5": None,
    "\N{ARABIC-INDIC DIGIT FIVE}": None,
    "Fri, 99 Jan 2026 00:00:00 GMT": None,
}


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("header", "seconds"), BUSY_UNTIL.items())
def test_busy_receiver_delays_the_retry(status, header, seconds):
    wait = requested_delay(status, header, NOW)
    assert (wait and wait.total_seconds()) == seconds


@pytest.mark.parametrize("status", [200, 301, 400, 404, 500, 502])
def test_other_statuses_request_no_delay(status):
    assert requested_delay(status, "120", NOW) is None


def test_addresses_of_both_families_take_turns():
    assert in_turn(["::1", "::2", "::3", "1.1.1.1"]) == ["::1", "1.1.1.1", "::2", "::3"]
    assert in_turn(["1.1.1.1", "::1"]) == ["1.1.1.1", "::1"]


def test_webhook_matches_only_facts_its_maker_sees():
    assert hook(prefixes=("inbox/mine/",)).matches(fact())
    assert not hook(prefixes=("inbox/mine/",)).matches(fact("other"))
    assert not hook(fact_filter=FactFilter(types=("objects.hashed.*",))).matches(fact())


def test_test_event_renders_like_any_fact():
    assert render_fact(synthetic_fact(hook(), NOW))["type"] == "webhooks.tried.v1"
    assert NOW + timedelta(0) == synthetic_fact(hook(), NOW).at


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_address_of_the_internet_is_public(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",  # noqa: S104
        "169.254.169.254", "100.64.0.1", "100.100.100.200", "192.0.0.192", "198.18.0.1", "224.0.0.1", "239.1.1.1",
        "240.0.0.1", "255.255.255.255", "192.0.2.1", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1",
        "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "::ffff:169.254.169.254", "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a00:1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "192.88.99.1", "192.88.99.255", "192.0.0.9", "192.31.196.1", "192.52.193.1", "192.175.48.1", "2002:c058:6301::",
        "64:ff9b::c058:6301", "100::1", "100:0:0:1::1", "2001:1::1", "2001:2::1", "2001:3::1", "2001:4:112::1",
        "2001:10::1", "2001:20::1", "2001:30::1", "2620:4f:8000::1", "3fff::1", "5f00::1", "4000::1", "fe00::1", "1::1",
        "2130706433", "0x7f.1", "0177.0.0.1", "localhost", "", "1.2.3", "8.8.8.8 ",
    ],
)  # fmt: skip
def test_address_of_this_machine_or_its_networks_is_refused(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "", "x", "ftp://example.org/", "file:///etc/passwd", "gopher://x/", "http://", "https:///path",
        "//example.org/",
        "http://user@example.org/", "http://user:word@example.org/", "http://a:b:c/", "http://example.org:99999/",
        "http://example.org:0/", "http://example.org:00", "https://example.org:1", "http://example.org:22/",
        "http://example.org:25/", "https://example.org:444/", "http://example.org:1023/", "http://example.org:2049/",
        "http://example.org:6000/", "http://example.org:6667/", "http://example.org:10080/", "http://example.org:65536/",
        "javascript:alert(1)", "http://\x00/", "https://example.org/" + "x" * 2000,
    ],
)  # fmt: skip
def test_invalid_webhook_url_is_refused(url):
    with pytest.raises(Rejected) as refused:
        parsed(url)
    assert refused.value.code == "TARGET_NOT_ALLOWED"


@pytest.mark.parametrize("port", ["", ":", ":80", ":443", ":1024", ":3000", ":8080", ":8443", ":65535"])
def test_port_that_a_web_server_may_have_is_taken(port):
    assert parsed(f"https://example.org{port}/hook").host == "example.org"

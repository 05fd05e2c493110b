"""Tokens, sessions, rates and origins: the pure half of who may come in."""

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.ingress.core.access import ROOT, SCOPES, Principal
from services.ingress.core.origins import HOME, host_of, is_cross_site, is_own_host, safe_next
from services.ingress.core.rate_limiter import MAX_BUCKETS, RateLimiter
from services.ingress.core.sessions import RENEW_AFTER, SESSION_TTL, Sessions
from services.ingress.core.tokens import Token, TokenCache, generate_token, hash_secret
from services.ingress.settings import IngressSettings
from shared.errors import Rejected

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FIRST = "the-first-token"


def made(**changes):
    number, text = generate_token()
    known = {"name": "lab", "scopes": frozenset({"read"}), "created_at": NOW, "created_by": "root", **changes}
    return Token(id=number, hash=hash_secret(text), **known), text


def test_token_authenticates_by_its_full_text_only():
    token, text = made(prefixes=("inbox/lab/",), rate=5.0)
    ring = TokenCache.of(FIRST, [token])
    assert ring.authenticate(text, NOW) == Principal(token.id, "lab", frozenset({"read"}), ("inbox/lab/",), 5.0)
    other = made()[1]
    for wrong in (text[:-1], text + "x", text.replace(token.id, "0" * 16), other, f"pst_{token.id}_", token.id, ""):
        assert ring.authenticate(wrong, NOW) is None


def test_root_token_is_root_and_an_empty_one_authenticates_no_client():
    assert TokenCache.of(FIRST).authenticate(FIRST, NOW) is ROOT
    assert TokenCache.of("").authenticate("", NOW) is None


def test_stored_token_does_not_reveal_its_text():
    token, text = made()
    assert text not in repr(token)
    assert text.rpartition("_")[2].encode() not in token.hash
    assert len(text.split("_", 2)[2]) >= 43  # 256 bits in base64


def test_token_holds_until_it_expires():
    token, text = made(expires_at=NOW + timedelta(seconds=1))
    ring = TokenCache.of(FIRST, [token])
    assert ring.authenticate(text, NOW)
    assert ring.authenticate(text, NOW + timedelta(seconds=1)) is None
    assert ring.principal_for(token.id, NOW + timedelta(seconds=1)) is None


@given(st.text())
def test_foreign_token_text_is_not_authenticated(text):
    assert TokenCache.of(FIRST, [made()[0]]).authenticate(text, NOW) is None


@given(st.text(), st.text())
def test_invented_id_and_secret_are_not_authenticated(number, secret):
    assert TokenCache.of(FIRST, [made()[0]]).authenticate(f"pst_{number}_{secret}", NOW) is None


@pytest.mark.parametrize(
    ("own", "given", "may"),
    [
        ((), (), True),
        ((), ("inbox/a/",), True),
        (("inbox/lab/",), ("inbox/lab/x/",), True),
        (("inbox/lab/",), ("inbox/lab/x/", "inbox/"), False),
        (("inbox/lab/",), (), False),
    ],
)
def test_principal_cannot_grant_prefixes_it_does_not_have(own, given, may):
    assert Principal("1", "a", frozenset({"admin"}), own).may_grant(given) is may


PLACES = st.lists(st.sampled_from(["inbox/", "inbox/a", "inbox/a/", "inbox/ab/", "jobs/"]), max_size=2).map(tuple)
RATES = st.none() | st.floats(0.1, 10)
ENDS = st.none() | st.integers(0, 100).map(lambda seconds: NOW + timedelta(seconds=seconds))
SCOPES_MADE = st.frozensets(st.sampled_from(SCOPES), min_size=1)


@given(st.lists(st.tuples(SCOPES_MADE, PLACES, RATES, ENDS), max_size=6), st.text("abij/", max_size=8))
def test_no_line_of_tokens_can_do_more_than_each_of_its_makers(asked, place):
    """As the ingress makes tokens: a wider one is refused, what is left out is the maker's."""
    maker, line = ROOT, []
    for number, (scopes, places, rate, expires_at) in enumerate(asked):
        try:
            maker.require_may_grant(scopes, places, rate, expires_at)
        except Rejected:
            continue
        rates = ((maker.id, maker.rate), *maker.rates) if maker.rate else maker.rates
        maker = Principal(str(number), "t", scopes, places, rate or maker.rate, rates, expires_at or maker.expires_at)
        line.append(maker)
    for above, below in combinations(line, 2):
        assert all(above.may(scope) for scope in below.scopes)
        assert above.sees("inbox", place) or not below.sees("inbox", place)
        assert above.rate is None or below.rate <= above.rate
        assert above.rate is None or (above.id, above.rate) in below.rates
        assert above.expires_at is None or below.expires_at <= above.expires_at


def test_revoking_a_token_ends_its_descendants_only():
    tokens = {name: replace(made()[0], id=name, parent_id=by) for name, by in LINE.items()}
    ring = TokenCache.of(FIRST, tokens.values())
    assert ring.with_descendants({"b"}) == {"b", "d", "e"}
    assert set(ring.without("b").tokens) == {"a", "c"}
    assert set(ring.without("a").tokens) == {"c"}
    assert [one.id for one in ring.ancestors("e")] == ["d", "b", "a"]
    assert [one.id for one in ring.ancestors("unknown")] == []


LINE = {"a": "root", "b": "a", "c": "root", "d": "b", "e": "d"}


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_bucket_gives_its_burst_and_then_the_rate():
    clock = Clock()
    rates = RateLimiter(clock)
    taken = [rates.acquire("a", 10, 5) for _ in range(6)]
    assert taken == [0, 0, 0, 0, 0, pytest.approx(0.1)]
    clock.now = 0.1
    assert (rates.acquire("a", 10, 5), rates.acquire("a", 10, 5)) == (0, pytest.approx(0.1))


def test_rate_limit_of_one_client_does_not_affect_another():
    rates = RateLimiter(Clock())
    while not rates.acquire("a", 1, 3):
        pass
    assert rates.acquire("b", 1, 3) == 0


def test_rate_below_one_per_second_admits_the_first_request():
    assert RateLimiter(Clock()).acquire("a", 0.1, 0.1) == 0


@given(st.lists(st.floats(0, 3), min_size=1, max_size=60))
def test_rate_limiter_never_exceeds_burst_and_rate(pauses):
    clock = Clock()
    rates = RateLimiter(clock)
    let_in = 0
    for pause in pauses:
        clock.now += pause
        let_in += rates.acquire("a", 2, 4) == 0
    assert let_in <= 4 + 2 * clock.now + 1e-6


def test_rate_limiter_drops_idle_clients():
    rates = RateLimiter(Clock())
    for number in range(3 * MAX_BUCKETS):
        rates.acquire(str(number), 1, 1)
    assert len(rates._buckets) <= MAX_BUCKETS


@pytest.fixture
def sessions():
    return Sessions(b"k" * 32, FIRST, is_https=False)


def test_cookie_brings_its_session_back_and_holds_nothing_of_the_token(sessions):
    opened = sessions.open_session("root")
    cookie = sessions.sign(opened)
    found = sessions.unsign(cookie)
    assert (found.id, found.token_id) == (opened.id, "root")
    assert FIRST not in cookie


def test_cookie_changed_or_signed_with_another_key_is_invalid(sessions):
    cookie = sessions.sign(sessions.open_session("root"))
    others = [Sessions(b"j" * 32, FIRST, is_https=False), Sessions(b"k" * 32, "another", is_https=False)]
    assert [other.unsign(cookie) for other in others] == [None, None]
    changed = [cookie[:at] + ("A" if cookie[at] != "A" else "B") + cookie[at + 1 :] for at in range(len(cookie) - 1)]
    assert all(sessions.unsign(one) is None for one in [*changed, "", "a.b.c", "ü"])


def test_cookie_expires_after_twelve_hours_and_is_renewed_before(sessions, monkeypatch):
    session = sessions.open_session("root")
    cookie = sessions.sign(session)
    later = datetime.now(UTC) + SESSION_TTL + timedelta(seconds=2)
    monkeypatch.setattr("itsdangerous.timed.time.time", later.timestamp)
    assert sessions.unsign(cookie) is None
    assert sessions.unsign(sessions.sign(session)).created_at > session.created_at
    assert not session.needs_renewal(session.created_at)
    assert session.needs_renewal(session.created_at + RENEW_AFTER)


def test_csrf_token_is_valid_for_its_session_only(sessions):
    one, other = sessions.open_session("root"), sessions.open_session("root")
    assert sessions.is_valid_csrf(one, sessions.csrf_token(one))
    assert not sessions.is_valid_csrf(other, sessions.csrf_token(one))
    assert not sessions.is_valid_csrf(one, "")
    assert not sessions.is_valid_csrf(one, "\udcff")


def test_over_tls_the_cookie_is_bound_to_the_host():
    assert Sessions(b"k", FIRST, is_https=True).cookie == "__Host-penstock_session"


OWN = "penstock.example:8443"


@pytest.mark.parametrize(
    ("headers", "foreign"),
    [
        ({}, False),
        ({"sec-fetch-site": "same-origin"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"sec-fetch-site": "cross-site"}, True),
        ({"sec-fetch-site": "cross-site", "origin": f"https://{OWN}"}, True),
        ({"sec-fetch-site": "same-site", "origin": "http://127.0.0.1:3000", "host": "127.0.0.1:8080"}, True),
        ({"origin": "http://127.0.0.1:8080", "host": "127.0.0.1:8080"}, False),
        ({"origin": "https://penstock.example", "host": "penstock.example"}, False),
        ({"origin": "https://penstock.example:443", "host": "penstock.example"}, False),
        ({"origin": f"https://{OWN}", "host": "10.0.0.7:8080"}, False),
        ({"origin": "https://evil.example", "host": "127.0.0.1:8080"}, True),
        ({"origin": "https://evil.example", "host": "127.0.0.1:8080", "sec-fetch-site": "same-origin"}, True),
        ({"origin": "null", "host": "127.0.0.1:8080"}, True),
        ({"origin": "null", "sec-fetch-site": "same-origin"}, False),
        ({"origin": "http://[", "host": "127.0.0.1:8080"}, True),
        ({"origin": "http://["}, True),
    ],
)
def test_cross_site_browser_request_is_detected(headers, foreign):
    assert is_cross_site(headers, OWN) is foreign


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("", True),
        ("localhost", True),
        ("localhost:8080", True),
        ("127.0.0.1:8080", True),
        ("127.9.9.9", True),
        ("[::1]:8080", True),
        ("penstock.example:8443", True),
        ("PENSTOCK.example", True),
        ("evil.example", False),
        ("evil.example:8080", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("10.0.0.1", False),
        ("[", False),
        ("localhost@evil.example", False),
        ("evil.example@localhost", False),
        ("localhost/evil.example", False),
        ("localhost evil.example", False),
        (" ", False),
    ],
)
def test_foreign_host_name_is_not_own_host(host, own):
    assert is_own_host(host, OWN) is own


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\/evil.example",
        "https://evil.example/",
        "javascript:alert(1)",
        "evil.example",
        "",
        "/\t/evil.example",
        "/a\r\nset-cookie: a=b",
        " /a",
        "/ü",
    ],
)
def test_redirect_to_another_site_is_refused(path):
    assert safe_next(path) == HOME


@pytest.mark.parametrize("path", ["/", "/files/", "/files/?a=b&c=%2F%2Fd", "/a//b", "/objects/inbox/%C3%BC"])
def test_own_path_is_a_safe_redirect(path):
    assert safe_next(path) == path


@given(st.text())
def test_safe_next_always_returns_a_local_path(path):
    sent = safe_next(path)
    assert sent.startswith("/")
    assert sent[1:2] not in {"/", "\\"}


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "::", "penstock.example", ""])  # noqa: S104 - refused
def test_auth_none_is_allowed_on_loopback_only(host):
    with pytest.raises(ValidationError, match="PENSTOCK_AUTH=none"):
        IngressSettings(auth="none", http_host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_on_loopback_tokens_may_be_left_out(host):
    IngressSettings(auth="none", http_host=host).require_secrets()


@pytest.mark.parametrize("given", [{}, {"token": "a"}, {"secret_key": "a" * 44}, {"token": "a", "secret_key": "?"}])
def test_tokens_need_a_first_one_and_a_key(given):
    with pytest.raises(Rejected, match="make up"):
        IngressSettings(**{"token": "", "secret_key": "", **given}).require_secrets()


GOOD_TOKEN, GOOD_KEY = "0123456789abcdef" * 2, base64.b64encode(bytes(range(32))).decode()


@pytest.mark.parametrize(
    ("wrong", "variable"),
    [
        ({"token": "x"}, "PENSTOCK_TOKEN"),
        ({"token": "0123456789abcdef" * 2 + "\n"}, None),
        ({"token": "0123456789abcdef0123456789abcde"}, "PENSTOCK_TOKEN"),
        ({"token": "changeme" * 5}, "PENSTOCK_TOKEN"),
        ({"token": "a" * 400}, "PENSTOCK_TOKEN"),
        ({"secret_key": base64.b64encode(b"x").decode()}, "PENSTOCK_SECRET_KEY"),
        ({"secret_key": base64.b64encode(bytes(range(31))).decode()}, "PENSTOCK_SECRET_KEY"),
        ({"secret_key": base64.b64encode(bytes(32)).decode()}, "PENSTOCK_SECRET_KEY"),
        ({"secret_key": "a" * 44}, "PENSTOCK_SECRET_KEY"),
        ({"secret_key": "no base64, however long it may be, is a key"}, "PENSTOCK_SECRET_KEY"),
        ({"secret_key": "x", "auth": "none"}, "PENSTOCK_SECRET_KEY"),
        ({}, None),
    ],
)
def test_secrets_that_can_be_guessed_are_refused(wrong, variable):
    made = IngressSettings(**{"token": GOOD_TOKEN, "secret_key": GOOD_KEY, **wrong})
    if variable is None:
        made.require_secrets()
        return
    with pytest.raises(Rejected, match=f"{variable} can be guessed") as refused:
        made.require_secrets()
    assert "\n" not in str(refused.value)
    assert not [secret for secret in wrong.values() if len(secret) > 4 and secret in str(refused.value)]


@given(st.binary(min_size=32, max_size=32).filter(lambda key: len(set(key)) >= 16))
def test_random_keys_are_taken(key):
    IngressSettings(token=key.hex(), secret_key=base64.b64encode(key).decode()).require_secrets()


def test_without_a_user_for_parts_the_ingress_does_not_start():
    with pytest.raises(Rejected, match="PENSTOCK_S3_SECRET_KEY_PARTS"):
        IngressSettings(s3_secret_key_parts="").require_parts_user()


@pytest.mark.parametrize("proxies", ["*", "proxy.example", "0.0.0.0/0", "::/0", "127.0.0.1 300.1.1.1"])
def test_trusted_proxy_is_an_address_or_a_network_of_some(proxies):
    with pytest.raises(ValidationError, match="PENSTOCK_TRUSTED_PROXIES"):
        IngressSettings(trusted_proxies=proxies)
    assert IngressSettings(trusted_proxies="10.0.0.7, ::1 10.1.0.0/16").trusted_proxies[0] == "10.0.0.7"


def test_usual_port_is_left_out_as_browsers_do():
    assert host_of("https://penstock.example:443/") == "penstock.example"
    assert host_of("http://127.0.0.1:8080") == "127.0.0.1:8080"

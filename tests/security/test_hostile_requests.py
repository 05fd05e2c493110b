"""Requests meant to mislead the server that takes them: forged clients and hosts, text that Postgres cannot store."""

import json

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from services.ingress.routes.auth_middleware import FAILURES_AT_ONCE
from tests.support import ingress
from tests.support.wire import connect, head, is_closed, read

pytestmark = pytest.mark.integration

ODD = st.text(st.sampled_from("\0\ud800\udfff\uffff\U0010ffff a/é"), min_size=1, max_size=12)
BY_PATH = [
    ("GET", "/gethash/{}"),
    ("GET", "/links/{}"),
    ("GET", "/timeline/inbox/{}"),
    ("GET", "/timeline/{}/a"),
    ("GET", "/webhooks/{}"),
    ("GET", "/webhooks/{}/failures"),
    ("POST", "/webhooks/{}/retry"),
    ("DELETE", "/webhooks/{}"),
    ("DELETE", "/tokens/{}"),
    ("GET", "/data/loads/{}"),
    ("GET", "/data/rejects?dataset=users&file={}"),
    ("GET", "/data?dataset={}"),
    ("GET", "/objects/inbox?prefix={}"),
    ("GET", "/objects/inbox/{}"),
    ("HEAD", "/tus/{}"),
    ("GET", "/multipart/{}"),
    ("GET", "/gethash-form/?file_id={}"),
    ("GET", "/login?code={}"),
]
BY_JSON = [
    ("/webhooks", {"url": "https://example.org/{}"}),
    ("/webhooks", {"url": "https://example.org/", "types": ["{}"]}),
    ("/webhooks", {"url": "https://example.org/", "bucket": "{}"}),
    ("/webhooks", {"url": "https://example.org/", "prefix": "{}"}),
    ("/tokens", {"name": "{}", "scopes": ["read"]}),
    ("/tokens", {"name": "a", "scopes": ["read"], "places": ["inbox/{}"]}),
    ("/multipart", {"key": "{}", "size": 1}),
    ("/multipart", {"filename": "{}", "size": 1}),
    ("/multipart", {"key": "a", "size": 1, "bucket": "{}"}),
]


@pytest.fixture
def served(system):
    ingress.serve(system)
    return system


@pytest.fixture
def root(served):
    with ingress.client(served) as client:
        yield client


@pytest.mark.parametrize(("method", "path"), BY_PATH)
def test_text_that_cannot_be_stored_is_refused_on_a_connection_that_stays(served, method, path):
    with connect(served) as line:
        for odd in ("%00", "a%00b", "%EF%BF%BF", "%C2%80", "\\ud800", "%ED%A0%80"):
            line.sendall(head(served, method, path.format(odd), 0 if method == "POST" else None))
            answer = _answer(line, method)
            assert answer < 500, f"{odd}: {answer}"
            assert not is_closed(line)
            line.settimeout(30)


def _answer(line, method):
    """Return the status of one answer; that to HEAD has no body."""
    if method != "HEAD":
        return read(line).status
    got = b""
    while b"\r\n\r\n" not in got:
        got += line.recv(65536)
    return int(got.split()[1])


@pytest.mark.parametrize(("path", "body"), BY_JSON)
def test_json_that_cannot_be_stored_is_refused(root, path, body):
    for odd in ("\\u0000", "a\\u0000b", "\\ud800", "\\udfff\\ud800"):
        sent = json.dumps(body).replace("{}", odd).encode()
        answer = root.post(path, content=sent, headers={"content-type": "application/json"})
        assert answer.status_code in {400, 404, 422}, f"{odd}: {answer.status_code} {answer.text}"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(BY_PATH), ODD)
@example(("DELETE", "/tokens/{}"), "\0")
@example(("GET", "/timeline/inbox/{}"), "\0")
def test_no_id_is_an_error_of_the_server(root, route, odd):
    method, path = route
    escaped = "".join(f"%{byte:02X}" for byte in odd.encode("utf-8", "surrogatepass"))
    answer = root.request(method, path.format(escaped))
    assert answer.status_code < 500, answer.text


def test_a_client_names_no_other_address_for_itself(system):
    ingress.serve(system)
    with ingress.client(system, "wrong") as stranger:
        forged = [{"x-forwarded-for": f"198.51.100.{number}"} for number in range(int(FAILURES_AT_ONCE) + 20)]
        statuses = {stranger.get("/whoami", headers=one).status_code for one in forged}
    assert statuses == {401, 429}
    log = system.stack.logs("ingress")
    assert "198.51.100." not in log
    assert "audit.login_failed" in log


def test_only_a_trusted_proxy_names_the_address_of_a_client(system):
    ingress.serve(system, trusted_proxies="127.0.0.1")
    with ingress.client(system, "wrong") as by_proxy:
        for number in range(int(FAILURES_AT_ONCE) + 5):
            headers = {"x-forwarded-for": f"203.0.113.7, 198.51.100.{number}"}
            assert by_proxy.get("/whoami", headers=headers).status_code == 401
        assert "198.51.100.3" in system.stack.logs("ingress")
        assert "203.0.113.7" not in system.stack.logs("ingress")
    transport = httpx.HTTPTransport(local_address="127.0.0.2")
    with ingress.client(system, "wrong", transport=transport) as stranger:
        stranger.get("/whoami", headers={"x-forwarded-for": "192.0.2.99"})
    log = system.stack.logs("ingress")
    assert "127.0.0.2" in log
    assert "192.0.2.99" not in log


@pytest.mark.parametrize(
    "target", ["/whoami/", "/uploadform", "/objects/inbox/", "/login/", "//evil.example/", "/docs/"]
)
def test_no_redirect_leads_to_the_host_that_a_request_names(served, target):
    with connect(served) as line:
        line.sendall(head(served, "GET", target, None, Host="evil.example", X_Forwarded_Host="evil.example"))
        answer = read(line)
    assert answer.status in {200, 401, 404, 422}
    assert "evil.example" not in str(answer.headers)


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /whoami HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
        b"POST /data HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /data HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n123456",
        b"POST /data HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST /data HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n12345",
        b"GET /who\xffami HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /whoami\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /whoami HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET /whoami HTTP/1.1\r\nHost: x\r\nA: b\n c\r\n\r\n",
    ],
)
def test_a_request_that_two_servers_could_read_in_two_ways_is_refused(system, root, request_):
    with connect(system) as line:
        line.sendall(request_)
        assert read(line).status in {400, 401}
        assert root.get("/whoami").status_code == 200


@pytest.mark.parametrize(
    ("variable", "value"),
    [("token", "x"), ("token", "changeme" * 5), ("secret_key", "eA=="), ("secret_key", "A" * 43 + "=")],
)
def test_a_secret_that_can_be_guessed_keeps_the_ingress_from_starting(system, variable, value):
    with pytest.raises(Exception, match="ingress"):
        ingress.serve(system, **{variable: value})
    lines = system.stack.logs("ingress").splitlines()
    assert [line for line in lines if f"PENSTOCK_{variable.upper()} can be guessed" in line]

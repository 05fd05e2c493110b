"""What the ingress must refuse: each row is answered with a problem, quickly, and nothing of it is left anywhere."""

import time
from contextlib import suppress

import pytest

from tests.support import ingress
from tests.support.waiting import until
from tests.support.wire import BOUNDARY, connect, drip, form, head, is_closed, part, read

pytestmark = pytest.mark.integration

FORM = f"multipart/form-data; boundary={BOUNDARY}"
LIMIT = 128 << 20
STALL = 2.0
SETTINGS = {"stall_seconds": STALL, "header_seconds": STALL, "max_upload_bytes": LIMIT}
ROUTES = {"files": ("POST", "/files/", "file"), "set": ("PUT", "/files/upload_minio", "files")}
QUICK_SECONDS = 10


@pytest.fixture
def served(system):
    ingress.serve(system, **SETTINGS)
    before = left(system)
    yield system
    until(lambda: left(system) == before, 20, lambda: f"left behind: {left(system) ^ before}")


def left(system):
    """Return everything that an upload could leave: objects, staged files, open multipart uploads."""
    pages = system.s3.get_paginator("list_objects_v2")
    objects = {
        f"{bucket}/{one['Key']}"
        for bucket in ("inbox", "uploads")
        for page in pages.paginate(Bucket=bucket)
        for one in page.get("Contents", ())
    }
    return objects | set(open_uploads(system))


def open_uploads(system):
    return [path.name for path in (system.stack.state_dir / "minio/data/.minio.sys/multipart").glob("*/*")]


def sent(system, method, path, body, *, length=None, **headers):
    with connect(system) as line:
        line.sendall(head(system, method, path, len(body) if length is None else length, Bucket="inbox", **headers))
        line.sendall(body)
        return read(line)


def assert_refused(answer, status, code):
    assert (answer.status, answer.json["code"], answer.json["status"]) == (status, code, status), answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    assert ":" in answer.json["detail"] or status in {408, 411}


def prefix_part(system):
    return part("keys_prefix", None, f"{system.prefix}set".encode())


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("filename", "code"),
    [
        ("", "NAME_EMPTY"),
        ("sub/", "NAME_EMPTY"),
        ("../x", "KEY_UNSAFE"),
        ("a/../../x", "KEY_UNSAFE"),
        ("..\\x", "KEY_UNSAFE"),
        ("/etc/passwd", "KEY_UNSAFE"),
        ("a\x00b", "KEY_UNSAFE"),
        ("a%0Ab", "KEY_UNSAFE"),
        ("a\x1b[31m", "KEY_UNSAFE"),
        ("\u202egpj.exe", "KEY_UNSAFE"),
        ("x" * 1100, "KEY_TOO_LONG"),
        ("\u00e9" * 550, "KEY_TOO_LONG"),
    ],
)
def test_bad_names(served, route, filename, code):
    method, path, field = ROUTES[route]
    body = form(prefix_part(served), part(field, filename, b"x" * 100))
    assert_refused(sent(served, method, path, body, Content_Type=FORM), 422, code)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("parts", "status", "code"),
    [
        ((("other", None, b"x"),), 422, "NO_FILE"),
        ((), 422, "NO_FILE"),
        ((("wrong", "a", b"x" * 100),), 422, "WRONG_FIELD"),
        ((("FIELD", "a", b"x" * 100), ("wrong", "b", b"x")), 422, "WRONG_FIELD"),
        (
            (("FIELD", "same", b"x" * (6 << 20)), ("FIELD", "same", b"y")),
            422,
            {"files": "TOO_MANY_FILES", "set": "SAME_NAME"},
        ),
        ((("other", None, b"x" * (65 << 10)), ("FIELD", "a", b"x")), 413, "TOO_LARGE"),
        ((("FIELD", "a", b"x"), *((("p", None, b""),) * 10_000)), 413, "TOO_LARGE"),
    ],
    ids=[
        "no file",
        "no part",
        "wrong field",
        "a second in a wrong field",
        "two of a name",
        "long field",
        "10,000 parts",
    ],
)
def test_bad_forms(served, route, parts, status, code):
    method, path, field = ROUTES[route]
    made = (part(field if name == "FIELD" else name, filename, body) for name, filename, body in parts)
    body = form(prefix_part(served), *made)
    code = code if isinstance(code, str) else code[route]
    assert_refused(sent(served, method, path, body, Content_Type=FORM), status, code)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("kind", "cut", "status", "code"),
    [
        ("multipart/form-data; boundary=another", None, 400, "BROKEN_BODY"),
        ("multipart/form-data", None, 415, "NO_FORM"),
        ("application/json", None, 415, "NO_FORM"),
        ("", None, 415, "NO_FORM"),
        (FORM, 20, 400, "BROKEN_BODY"),
        (FORM, -4, 400, "BROKEN_BODY"),
    ],
)
def test_bodies_that_are_no_form(  # noqa: PLR0913, PLR0917 - a row
    served, route, kind, cut, status, code
):
    method, path, field = ROUTES[route]
    body = form(prefix_part(served), part(field, "a", b"x" * 100))[:cut]
    assert_refused(sent(served, method, path, body, Content_Type=kind), status, code)


@pytest.mark.parametrize("route", ROUTES)
def test_a_hundred_megabytes_of_line_ends_are_refused_at_once(served, route):
    method, path, _ = ROUTES[route]
    started = time.monotonic()
    assert_refused(sent(served, method, path, b"\r\n" * (50 << 20), Content_Type=FORM), 400, "BROKEN_BODY")
    assert time.monotonic() - started < QUICK_SECONDS


def upload_requests(system, body=b"x" * 100):
    yield "PUT", f"/objects/inbox/{system.prefix}a", body, "text/plain"
    for method, path, field in ROUTES.values():
        yield method, path, form(prefix_part(system), part(field, "a", body)), FORM


@pytest.mark.parametrize("route", range(3))
class TestEveryDoor:
    """Raw objects, files, sets."""

    def test_a_body_that_nobody_announces_is_refused(self, served, route):
        method, path, _, kind = list(upload_requests(served))[route]
        with connect(served) as line:
            line.sendall(head(served, method, path, None, Bucket="inbox", Content_Type=kind))
            assert_refused(read(line), 411, "LENGTH_REQUIRED")

    @pytest.mark.parametrize(
        ("end", "status", "code"),
        [
            (b"0\r\nx-amz-checksum-crc32: AAAAAA==\r\n\r\n", 400, "HEADER_REFUSED"),
            (b"zz\r\n", 400, "BROKEN_BODY"),
        ],
    )
    def test_chunks_that_end_otherwise_than_they_should_leave_nothing(self, served, route, end, status, code):
        method, path, body, kind = list(upload_requests(served))[route]
        with connect(served) as line:
            headers = {"Bucket": "inbox", "Content_Type": kind, "Transfer_Encoding": "chunked"}
            line.sendall(head(served, method, path, None, **headers) + b"%x\r\n%b\r\n" % (len(body), body) + end)
            if code == "HEADER_REFUSED":
                assert_refused(read(line), status, code)
            else:
                until(lambda: is_closed(line), 10, "the end of the line")

    @pytest.mark.parametrize("size", [100, 12 << 20])
    def test_chunks_that_break_off_leave_nothing(self, served, route, size):
        method, path, body, kind = list(upload_requests(served, b"x" * size))[route]
        with connect(served) as line:
            headers = {"Bucket": "inbox", "Content_Type": kind, "Transfer_Encoding": "chunked"}
            line.sendall(head(served, method, path, None, **headers) + b"%x\r\n%b\r\n" % (len(body), body))

    def test_chunks_past_the_limit_are_refused_while_they_come(self, served, route):
        method, path, body, kind = list(upload_requests(served, b"x" * (1 << 20)))[route]
        with connect(served) as line, suppress(ConnectionError):
            headers = {"Bucket": "inbox", "Content_Type": kind, "Transfer_Encoding": "chunked"}
            line.sendall(head(served, method, path, None, **headers) + b"%x\r\n%b\r\n" % (len(body), body))
            for _ in range(LIMIT >> 20):
                line.sendall(b"%x\r\n%b\r\n" % (1 << 20, bytes(1 << 20)))
            assert read(line).status in {400, 413}

    def test_a_body_that_declares_too_much_is_refused_before_it_comes(self, served, route):
        method, path, _, kind = list(upload_requests(served))[route]
        assert_refused(sent(served, method, path, b"", length=LIMIT + 1, Content_Type=kind), 413, "TOO_LARGE")

    @pytest.mark.parametrize("size", [100, 12 << 20])
    def test_a_client_that_goes_away_leaves_nothing(self, served, route, size):
        method, path, body, kind = list(upload_requests(served, b"x" * size))[route]
        with connect(served) as line:
            line.sendall(head(served, method, path, len(body) + 1000, Bucket="inbox", Content_Type=kind) + body)

    def test_a_body_that_stalls_is_given_up_and_its_line_closed(self, served, route):
        method, path, body, kind = list(upload_requests(served, b"x" * (6 << 20)))[route]
        with connect(served) as line:
            line.sendall(head(served, method, path, len(body) + 1000, Bucket="inbox", Content_Type=kind) + body)
            assert_refused(read(line), 408, "STALLED")
            until(lambda: is_closed(line), 5, "the line is closed")


@pytest.mark.parametrize(("method", "path"), [("PUT", "/objects/nowhere/a"), ("PUT", "/files/upload_minio")])
def test_an_unknown_bucket_is_told_before_the_body_is_read(served, method, path):
    with connect(served) as line:
        line.sendall(head(served, method, path, 1000, Bucket="nowhere", Content_Type=FORM))
        assert_refused(read(line), 404, "NO_SUCH_BUCKET")


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [
        ("", 422, "NAME_EMPTY"),
        ("..%2F..%2Fetc/passwd", 422, "KEY_UNSAFE"),
        ("a/../b", 422, "KEY_UNSAFE"),
        ("%2Fabsolute", 422, "KEY_UNSAFE"),
        ("a//b", 422, "KEY_UNSAFE"),
        ("a%00b", 422, "KEY_UNSAFE"),
        ("a%0Ab", 404, "NOT_FOUND"),
        ("%1B%5B31m", 422, "KEY_UNSAFE"),
        ("%E2%80%AEgpj.exe", 422, "KEY_UNSAFE"),
        ("x" * 1100, 422, "KEY_TOO_LONG"),
        ("x" * 300, 422, "KEY_REFUSED"),
    ],
)
def test_bad_keys_of_raw_objects(served, key, status, code):
    answer = sent(served, "PUT", f"/objects/inbox/{key}", b"x")
    assert (answer.status, answer.json["code"]) == (status, code)


def test_a_slow_drip_that_never_stalls_is_still_bounded_by_the_head(served):
    with connect(served) as line:
        drip(line, [b"GET /health HTTP/1.1\r\n", *[b"a: b\r\n"] * 20], STALL / 8)
        assert_refused(read(line), 408, "STALLED")
        until(lambda: is_closed(line), 5, "the line is closed")


@pytest.mark.parametrize(
    "tail",
    [b"a: " + b"x" * (1 << 20), b"a: b\r\n" * 10_000 + b"\r\n", b"a: " + b"x" * (100 << 10) + b"\r\n\r\n"],
    ids=["a header without end", "10,000 headers", "a long header"],
)
def test_a_head_that_is_too_large_is_refused(served, tail):
    with connect(served) as line:
        line.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n" + tail)
        assert_refused(read(line), 431, "HEAD_TOO_LARGE")


def test_a_long_address_is_a_large_head(served):
    with connect(served) as line:
        line.sendall(head(served, "GET", "/files/" + "x" * (70 << 10), None))
        assert_refused(read(line), 431, "HEAD_TOO_LARGE")


def test_what_is_no_http_is_told_so(served):
    with connect(served) as line:
        line.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        assert_refused(read(line), 400, "NO_HTTP")


def test_an_idle_line_stays_open_and_serves_again(served):
    with connect(served) as line:
        for _ in range(2):
            line.sendall(head(served, "GET", "/health", None))
            assert read(line).status == 200
            assert not is_closed(line)
            time.sleep(STALL * 1.2)  # longer than a head may take, shorter than a line may idle


def test_a_body_that_is_answered_early_does_not_hold_its_line(served):
    with connect(served) as line:
        line.sendall(head(served, "PUT", "/objects/nowhere/a", 1 << 20))
        assert_refused(read(line), 404, "NO_SUCH_BUCKET")
        drip(line, [b"x"] * 20, STALL / 8)
        until(lambda: is_closed(line), 5, "the line is closed")


def test_a_body_that_is_answered_early_and_then_ends_leaves_its_line_of_use(served):
    with connect(served) as line:
        line.sendall(head(served, "PUT", "/objects/nowhere/a", 1000))
        assert read(line).status == 404
        line.sendall(b"x" * 1000 + head(served, "GET", "/health", None))
        assert read(line).status == 200


def test_with_the_store_stopped_uploads_are_told_to_come_again(system):
    ingress.serve(system, **SETTINGS)
    before = left(system)
    with system.without("minio"):
        for method, path, body, kind in upload_requests(system):
            answer = sent(system, method, path, body, Content_Type=kind)
            assert_refused(answer, 503, "SERVICE_UNAVAILABLE")
            assert answer.headers["retry-after"] == "5"
    until(lambda: left(system) == before, 20, lambda: f"left behind: {left(system) ^ before}")

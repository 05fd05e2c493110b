"""The console through the ingress, on a host that reaches only HTTP."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support import ingress
from tests.support.system import digests_of

pytestmark = pytest.mark.integration

PENSTOCK = Path(sys.executable).with_name("penstock")
LARGE = 20 << 20


class Console:
    """A console with a URL and a token, and without the other servers and their keys."""

    def __init__(self, folder, url, token):
        self.url = url
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")},
            "PENSTOCK_S3_ENDPOINT": "http://127.0.0.1:1",
            "PENSTOCK_KAFKA_BOOTSTRAP": "127.0.0.1:1",
            "PENSTOCK_POSTGRES_DSN": "postgresql://nobody@127.0.0.1:1/none",
            "PENSTOCK_JOURNAL_DIR": str(folder / "journal"),
            "PENSTOCK_TOKEN": token,
        }
        self.folder = folder

    def start(self, *words):
        return subprocess.Popen(
            [PENSTOCK, *words, "--url", self.url],
            env=self.env,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words, code=0):
        process = self.start(*words)
        out, err = process.communicate(timeout=120)
        assert process.returncode == code, (words, process.returncode, out, err)
        assert "Traceback" not in err
        return out, err

    def json(self, *words, code=0):
        return json.loads(self.run(*words, "--json", code=code)[0])


@pytest.fixture
def console(system, tmp_path):
    (tmp_path / ".env").write_text("")
    return Console(tmp_path, ingress.serve(system), system.stack.env["PENSTOCK_TOKEN"])


def test_token_is_created_listed_and_revoked(system, console):
    words = ("--scope", "read", "--scope", "write", "--prefix", "inbox/lab/", "--expires", "30d", "--rate", "50")
    text, note = console.run("token", "create", "lab", *words)
    token = text.strip()
    assert token not in note
    with ingress.client(system, token) as client:
        me = client.get("/whoami").json()
    assert (me["name"], me["scopes"], me["places"], me["rate"]) == ("lab", ["read", "write"], ["inbox/lab/"], 50)
    shown = console.run("token", "list")[0]
    assert "lab" in shown
    assert token not in shown
    (listed,) = console.json("token", "list")["tokens"]
    assert listed["expires_at"] is not None
    assert console.json("token", "revoke", "lab")["revoked"]["id"] == listed["id"]
    assert "no valid token has the name or id lab" in console.run("token", "revoke", "lab", code=1)[1]
    assert "no tokens except PENSTOCK_TOKEN" in console.run("token", "list")[0]


def test_login_prints_a_link_that_works_once(console):
    link = console.run("login")[0].strip()
    assert httpx.get(link).status_code == 303
    assert httpx.get(link).status_code == 403
    assert console.json("login")["url"].startswith(f"{console.url}/login?code=")


def test_put_through_ingress_shows_digests(system, console):
    small, large = console.folder / "ü #1.txt", console.folder / "large.bin"
    small.write_bytes(b"small")
    large.write_bytes(os.urandom(LARGE))
    stored = console.json(
        "put", str(small), str(large), f"s3://inbox/{system.prefix}", "--wait", "--checksum", "sha256"
    )
    digests = {one["key"].removeprefix(system.prefix): one["digest"] for one in stored["objects"]}
    assert {name: one["digests"] for name, one in digests.items()} == {
        path.name: digests_of(path.read_bytes()) for path in (small, large)
    }
    assert {one["verification"] for one in digests.values()} == {"verified"}
    address = f"s3://inbox/{system.prefix}{small.name}"
    assert console.json("digest", address)["digests"] == digests_of(b"small")
    assert console.run("digest", f"{address}.not", code=4)[0]


def test_watch_continues_over_a_restart_of_the_ingress(system, console):
    system.put("before")
    system.hashed("before")
    words = ("watch", "--prefix", system.prefix, "--type", "objects.hashed", "--from-start", "--count", "2", "--json")
    process = console.start(*words)
    first = json.loads(process.stdout.readline())
    system.stack.restart("ingress")
    system.put("after")
    second = json.loads(process.stdout.readline())
    assert [one["key"].removeprefix(system.prefix) for one in (first, second)] == ["before", "after"]
    assert process.wait(30) == 0
    process.communicate()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("put", ".env", "s3://results/x"), "results"),
        (("put", ".env", "s3://inbox/../x"), "escapes its folder"),
        (("token", "create", "root", "--scope", "read"), "root is taken"),
        (("token", "create", "a", "--scope", "read", "--prefix", "inbox"), "places"),
    ],
)
def test_rejected_request_prints_its_reason(console, words, text):
    error = console.run(*words, code=1)[1]
    assert text in error.replace("\n", " ")


def test_unknown_token_is_rejected_with_the_fix(console):
    console.env["PENSTOCK_TOKEN"] = "wrong"
    error = console.run("token", "list", code=1)[1]
    assert "not known" in error
    assert "PENSTOCK_TOKEN" in error
    assert "wrong" not in error


def test_unreachable_ingress_is_named(console):
    console.url = "http://127.0.0.1:1"
    assert "the ingress at http://127.0.0.1:1 does not answer" in console.run("login", code=1)[1]
    console.url = "no address"
    assert "is not a URL" in console.run("login", code=1)[1]

"""Nothing connects before it starts: importing every module and wiring every service opens no socket."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import importlib, pkgutil, sys

LOUD = ("socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.Popen", "os.fork", "os.exec")

def forbid(event, args):
    if event.startswith(LOUD):
        raise RuntimeError(f"{event} {args}")

sys.addaudithook(forbid)

import services, shared

names = [found.name for package in (services, shared)
         for found in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
for name in names:
    importlib.import_module(name)
from services import catalogue
for name in catalogue.names():
    catalogue.build(name)
print(len(names))
"""


def test_importing_and_wiring_opens_no_socket_and_starts_no_program():
    checkout = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", PROGRAM],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 50

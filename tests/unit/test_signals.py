"""A request to stop the native stack is obeyed at the next wait, wherever the program was when it came."""

import signal
import subprocess
import sys

import pytest

LISTENING = """
import os, signal, threading, time
from deploy.native import signals

def ask():
    os.kill(os.getpid(), signal.{name})

signals.listen()
{moment}
try:
    signals.sleep(20)
except signals.Stopped:
    print("stopped")
"""
IN_A_DESTRUCTOR = """
class Leaving:
    def __del__(self):
        ask()

Leaving()
"""
WITH_A_LOCK_JUST_TAKEN = """
class Asking:
    def __init__(self):
        self.lock = threading.Lock()
    def __enter__(self):
        self.lock.acquire()
        ask()
        for _ in range(1000):  # bytecode after which a handler may run
            pass
    def __exit__(self, *_):
        self.lock.release()

asking = Asking()
with asking:
    pass
assert asking.lock.acquire(timeout=1), "nobody gives the lock back"
"""
WHILE_IT_WAITS = """
threading.Timer(0.2, ask).start()
"""
MANY_TIMES = """
for _ in range(50):
    ask()
"""


def said(moment, number):
    program = LISTENING.format(moment=moment, name=number.name)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=15, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize(
    "moment",
    [IN_A_DESTRUCTOR, WITH_A_LOCK_JUST_TAKEN, WHILE_IT_WAITS, MANY_TIMES],
    ids=["in a destructor", "with a lock just taken", "while it waits", "many times"],
)
def test_a_request_to_stop_is_obeyed_whenever_it_comes(moment, number):
    assert said(moment, number) == (0, "stopped\n", "")


def test_a_second_request_does_not_cut_stopping_short():
    assert said("ask()", signal.SIGINT)[1] == "stopped\n"
    after = "try:\n    ask()\n    signals.sleep(20)\nexcept signals.Stopped:\n    ask()\n    signals.sleep(0.1)\n"
    program = LISTENING.split("try:", maxsplit=1)[0].format(moment=after + "print('whole')", name="SIGTERM")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=15, check=False)
    assert (done.returncode, done.stdout) == (0, "whole\n")


def test_sleep_without_signals_lasts_its_full_time():
    program = "import time; from deploy.native import signals; now = time.monotonic(); signals.sleep(0.2); "
    done = subprocess.run(
        [sys.executable, "-c", program + "print(time.monotonic() - now >= 0.2)"], capture_output=True, check=False
    )
    assert done.stdout == b"True\n"

"""Ports on this machine: free ones, taken ones, and who holds them."""

import contextlib
import itertools
import os
import random
import socket
from collections.abc import Mapping

import psutil

from shared.errors import PenstockError

HOST = "127.0.0.1"
PICK_FROM = range(26_000, 32_000)
"""Below the kernel's own range, so that no outgoing connection takes a port while its server restarts."""


class Taken(PenstockError):  # noqa: N818 - a state, not an error
    """Another program holds a port that the stack needs."""


def is_free(port: int) -> bool:
    """Whether a server may listen on `port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def is_ours(port: int) -> bool:
    """Whether a program of this user listens on `port`."""
    for one in psutil.net_connections("tcp"):
        if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid:
            with contextlib.suppress(psutil.Error):  # it is leaving
                return psutil.Process(one.pid).uids().effective == os.geteuid()
    return False


def holder(port: int) -> str:
    """Say who listens on `port`: process id and command, as far as we may see."""
    for one in psutil.net_connections("tcp"):
        if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid:
            with contextlib.suppress(psutil.Error):  # it is leaving
                return f"process {one.pid} ({' '.join(psutil.Process(one.pid).cmdline())[:120]})"
    return "a process of another user"


def require_free(name: str, ports: Mapping[str, int]) -> None:
    """Make sure that `ports` (number by the variable that moves it) are free.

    Raises:
        Taken: one is not; the text names who holds it and the variable.

    """
    for variable, port in ports.items():
        if not is_free(port):
            raise Taken(f"{name} needs port {port}, which {holder(port)} holds; stop it, or set {variable} to another")


def pick(count: int) -> list[int]:
    """Return `count` different free ports for a stack beside others."""
    return list(itertools.islice(filter(is_free, random.sample(PICK_FROM, len(PICK_FROM))), count))

"""Ports on this machine: free ones, taken ones, and who holds them."""

import contextlib
import errno
import itertools
import os
import random
import socket
from collections.abc import Mapping

import psutil

from shared.errors import PenstockError

HOST = "127.0.0.1"
EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 - others listen there
LEAVING = frozenset(
    {psutil.CONN_TIME_WAIT, psutil.CONN_FIN_WAIT1, psutil.CONN_FIN_WAIT2, psutil.CONN_LAST_ACK, psutil.CONN_CLOSING}
)
"""How a connection stands whose program has let go of it, which keeps its port for a minute (RFC 9293, 3.3.2)."""
PICK_FROM = range(26_000, 32_000)
"""Below the kernel's own range, so that no outgoing connection takes a port while its server restarts."""


class Taken(PenstockError):  # noqa: N818 - a state, not an error
    """Another program holds a port that the stack needs."""


def is_free(port: int) -> bool:
    """Whether a server may listen on `port` now."""
    return _refusal(port) is None


def _refusal(port: int) -> OSError | None:
    """Return the error that a server of ours would get; None: it may listen."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return error
        return None


def is_ours(port: int) -> bool:
    """Whether a program of this user listens on `port`."""
    for one in psutil.net_connections("tcp"):
        if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid:
            with contextlib.suppress(psutil.Error):  # it is leaving
                return psutil.Process(one.pid).uids().effective == os.geteuid()
    return False


def holder(port: int) -> str:
    """Say what holds `port` and what to do about it, as far as we may see."""
    here = {HOST, f"::ffff:{HOST}", *EVERYWHERE}
    ours = [
        one for one in psutil.net_connections("tcp") if one.laddr and one.laddr.port == port and one.laddr.ip in here
    ]
    if listening := next((one for one in ours if one.status == psutil.CONN_LISTEN), None):
        return f"{_process(listening.pid)} holds; stop it"
    if connected := next((one for one in ours if one.status not in LEAVING), None):
        return f"a connection of {_process(connected.pid)} has as its own end; end that"
    if ours:
        return f"a connection that has ended still holds ({ours[0].status}); wait a minute"
    return "a program holds that does not listen yet; stop it"


def _process(pid: int | None) -> str:
    """Name a process by id and command."""
    if pid is None:
        return "a process of another user"
    with contextlib.suppress(psutil.Error):  # it is leaving
        return f"process {pid} ({' '.join(psutil.Process(pid).cmdline())[:120]})"
    return f"process {pid}"


def require_free(name: str, ports: Mapping[str, int]) -> None:
    """Make sure that `ports` (number by the variable that moves it) are free.

    Raises:
        Taken: one is not; the text names what holds it, what to do, and the variable.

    """
    for variable, port in ports.items():
        if (error := _refusal(port)) is None:
            continue
        move = f"or set {variable} to another"
        if error.errno == errno.EADDRINUSE:
            raise Taken(f"{name} needs port {port}, which {holder(port)}, {move}")
        raise Taken(f"{name} needs port {port}, and may not have it ({error.strerror}): run as root, {move}")


def pick(count: int) -> list[int]:
    """Return `count` different free ports for a stack beside others."""
    return list(itertools.islice(filter(is_free, random.sample(PICK_FROM, len(PICK_FROM))), count))

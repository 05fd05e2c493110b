"""A port that the stack needs and cannot have is reported with what truly holds it."""

import errno
import os
import socket
import sys

import psutil
import pytest

from deploy.native import ports, stack
from deploy.native.process import Process, Program
from tests.support.waiting import until

pytestmark = pytest.mark.integration


def refusal(port):
    with pytest.raises(ports.Taken) as caught:
        ports.require_free("kafka", {"PENSTOCK_KAFKA_PORT": port})
    text = str(caught.value)
    assert f"kafka needs port {port}" in text
    assert "or set PENSTOCK_KAFKA_PORT to another" in text
    return text


def states(port):
    return {one.status for one in psutil.net_connections("tcp") if one.laddr and one.laddr.port == port}


@pytest.fixture
def connected():
    """Give both ends of a connection whose client has taken a port of its own."""
    with socket.create_server((ports.HOST, 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        with client, accepted:
            yield client, accepted


@pytest.mark.parametrize("address", [ports.HOST, ""], ids=["loopback", "everywhere"])
def test_a_listener_is_named_with_its_process(address):
    with socket.create_server((address, 0)) as server:
        assert f"which process {os.getpid()} (" in refusal(server.getsockname()[1])


def test_a_listener_for_both_families_is_named_with_its_process():
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        assert f"which process {os.getpid()} (" in refusal(server.getsockname()[1])


def test_the_own_end_of_an_outgoing_connection_is_named_as_such(connected):
    text = refusal(connected[0].getsockname()[1])
    assert f"a connection of process {os.getpid()} (" in text
    assert "end that" in text


@pytest.mark.parametrize("also_the_other_end", [False, True], ids=["FIN_WAIT2", "TIME_WAIT"])
def test_a_connection_that_has_ended_is_waited_for_not_blamed_on_a_user(connected, also_the_other_end):
    client, accepted = connected
    port = client.getsockname()[1]
    client.close()
    if also_the_other_end:
        accepted.close()
    expected = psutil.CONN_TIME_WAIT if also_the_other_end else psutil.CONN_FIN_WAIT2
    # an older connection of another test may have used the same port
    until(lambda: expected in states(port), 10, lambda: states(port))
    held, text = states(port), refusal(port)
    assert any(f"a connection that has ended still holds ({one}); wait a minute" in text for one in held)
    assert "user" not in text


def test_what_a_server_left_in_time_wait_is_free():
    with socket.create_server((ports.HOST, 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection((ports.HOST, port)) as client:
            server.accept()[0].close()
            until(lambda: client.recv(1) == b"", 10, "the end of the connection")
    until(lambda: states(port) == {psutil.CONN_TIME_WAIT}, 10, lambda: states(port))
    ports.require_free("kafka", {"PENSTOCK_KAFKA_PORT": port})


def test_a_port_that_is_bound_but_not_listened_on_is_named_as_such():
    with socket.socket() as bound:
        bound.bind((ports.HOST, 0))
        assert "a program holds that does not listen yet" in refusal(bound.getsockname()[1])


SERVER = "import os, socket; s = socket.create_server(('127.0.0.1', int(os.environ['PORT']))); s.accept()"


def test_stacks_that_chose_one_health_port_at_once_both_come_up(tmp_path, monkeypatch):
    def service(_env, name, _number, port):
        command = (sys.executable, "-c", SERVER)
        return Program(name, command, {"PORT": str(port)}, ports={"PENSTOCK_HEALTH_PORT_BASE": port}, grace=1)

    monkeypatch.setattr(stack.services, "service", service)
    base = str(ports.pick(1)[0])
    monkeypatch.setattr(Process, "start", lambda _: None)
    stacks = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made = stack.Stack({"PENSTOCK_STATE_DIR": str(tmp_path / name), "PENSTOCK_HEALTH_PORT_BASE": base}, [])
        made.start_service("svc", wait=False)
        stacks.append(made.processes["svc"])
    monkeypatch.undo()
    monkeypatch.setattr(stack.services, "service", service)
    chosen = [one.program.ports["PENSTOCK_HEALTH_PORT_BASE"] for one in stacks]
    assert chosen[0] == chosen[1]
    try:
        for process in stacks:
            process.start()
            port = process.program.ports["PENSTOCK_HEALTH_PORT_BASE"]
            until(lambda port=port: not ports.is_free(port), 10, f"port {port}")
        assert all(process.running for process in stacks)
        assert len({process.program.ports["PENSTOCK_HEALTH_PORT_BASE"] for process in stacks}) == 2
    finally:
        for process in stacks:
            process.kill()


def test_a_listener_that_this_user_may_not_look_at_is_another_users(monkeypatch):
    with socket.create_server((ports.HOST, 0)) as server:
        seen = [one._replace(pid=None) for one in psutil.net_connections("tcp")]
        monkeypatch.setattr(psutil, "net_connections", lambda _: seen)
        assert "a process of another user holds; stop it" in refusal(server.getsockname()[1])


def test_a_port_that_only_root_may_have_is_not_called_taken(monkeypatch):
    monkeypatch.setattr(ports, "_refusal", lambda _: OSError(errno.EACCES, os.strerror(errno.EACCES)))
    assert "may not have it (Permission denied): run as root" in refusal(80)

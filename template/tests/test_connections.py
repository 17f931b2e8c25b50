"""Over HTTP: clients that are too slow, and many of them."""

from __future__ import annotations

import errno
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from conftest import TOKEN, ServerProcess
from pkg import connections

Serve = Callable[..., ServerProcess]

LIMIT = 0.3  # seconds for a head, and for a body, of the server under test
LONG = 10.0  # more than enough for it to act, on a busy machine too

HEAD = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"


@pytest.fixture(scope="module")
def hasty(serve: Serve) -> ServerProcess:
    return serve(PROBE_HEAD_SECONDS=str(LIMIT), PROBE_BODY_SECONDS=str(LIMIT))


@contextmanager
def connected(server: ServerProcess) -> Iterator[socket.socket]:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=LONG) as connection:
        yield connection


def read_to_the_end(connection: socket.socket) -> bytes:
    """What comes until the server closes; a TimeoutError if it does not."""
    answer = b""
    try:
        while data := connection.recv(65536):
            answer += data
    except ConnectionResetError:
        pass
    return answer


def read_answer(connection: socket.socket) -> bytes:
    answer = b""
    while b"}" not in answer:
        data = connection.recv(65536)
        assert data
        answer += data
    return answer


def test_a_client_has_ten_seconds_for_a_head_and_a_minute_for_a_body() -> None:
    assert (connections.HEAD_SECONDS, connections.BODY_SECONDS) == (10, 60)


@pytest.mark.parametrize("sent", [b"", b"G", HEAD, POST])
def test_half_a_request_is_not_held(hasty: ServerProcess, sent: bytes) -> None:
    with connected(hasty) as connection:
        began = time.monotonic()
        connection.sendall(sent)
        assert read_to_the_end(connection) == b""
        assert time.monotonic() - began >= LIMIT * 0.9


@pytest.mark.parametrize("sent", [HEAD, POST])
def test_a_byte_now_and_then_wins_no_time(hasty: ServerProcess, sent: bytes) -> None:
    with connected(hasty) as connection:
        connection.sendall(sent)
        connection.settimeout(0.1)
        give_up = time.monotonic() + LONG
        while time.monotonic() < give_up:
            try:
                connection.sendall(b"x")
                if not connection.recv(65536):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        assert time.monotonic() < give_up


def test_a_connection_that_was_used_may_not_be_held_either(hasty: ServerProcess) -> None:
    with connected(hasty) as connection:
        # The second half request comes together with the first whole one, and goes on byte by byte.
        connection.sendall(HEAD + b"\r\n" + HEAD)
        assert b'"healthy"' in read_answer(connection)
        connection.sendall(b"X: y")
        began = time.monotonic()
        assert read_to_the_end(connection) == b""
        assert time.monotonic() - began < 4  # uvicorn's own limit, for a connection that lies idle, is 5


def test_the_rest_of_a_refused_request_is_not_awaited_for_ever(serve: Serve) -> None:
    server = serve(PROBE_HEAD_SECONDS=str(LIMIT), PROBE_BODY_SECONDS=str(LIMIT), MCP_BEARER_TOKENS=TOKEN)
    with connected(server) as connection:
        connection.sendall(POST)
        assert b" 401 " in read_answer(connection)
        connection.sendall(b" " * 999)
        assert read_to_the_end(connection) == b""


def test_a_pause_between_requests_is_nothing_bad(hasty: ServerProcess) -> None:
    with connected(hasty) as connection:
        connection.sendall(HEAD + b"\r\n")
        assert b'"healthy"' in read_answer(connection)
        time.sleep(LIMIT * 2)
        connection.sendall(HEAD + b"\r\n")
        assert b'"healthy"' in read_answer(connection)


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), b"\r\n" * 10, b"\0"])
def test_what_is_no_http_is_closed(hasty: ServerProcess, sent: bytes) -> None:
    with connected(hasty) as connection:
        connection.sendall(sent)
        assert read_to_the_end(connection)[:12] in {b"", b"HTTP/1.1 400"}


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limit")
def test_half_requests_by_the_hundred_leave_room_for_others(serve: Serve) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        server = serve()  # which inherits the limit
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(connected(server)).sendall(HEAD)
        assert httpx.get(f"{server.url}/health", timeout=5).status_code == 200
        assert httpx.get(f"{server.url}/ready", timeout=5).status_code == 200
        if (limits := Path(f"/proc/{server.process.pid}/limits")).exists():
            line = next(it for it in limits.read_text().splitlines() if it.startswith("Max open files"))
            assert line.split()[3] == line.split()[4] == str(hard)


def test_the_socket_is_for_tcp_and_for_one_address() -> None:
    with connections.listen("127.0.0.1", 0) as listener:
        # Without the protocol's number asyncio sets no TCP_NODELAY, and a call takes 40 ms longer.
        assert listener.proto == socket.IPPROTO_TCP
        assert listener.getsockname()[0] == "127.0.0.1"


def test_many_may_knock_at_the_same_time() -> None:
    with connections.listen("127.0.0.1", 0) as listener, ExitStack() as stack:
        for _ in range(100):  # while the server is busy and accepts none
            stack.enter_context(socket.create_connection(listener.getsockname(), timeout=LONG))


@pytest.mark.skipif(sys.platform != "linux", reason="only there the system gives up on those who do not read")
def test_an_answer_that_nobody_reads_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    assert connections.UNREAD_SECONDS == 60
    monkeypatch.setattr(connections, "UNREAD_SECONDS", 0.3)
    with connections.listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(LONG)
            with pytest.raises(TimeoutError) as raised:
                connection.sendall(bytes(64 << 20))
            assert raised.value.errno == errno.ETIMEDOUT  # the system's, not that of the test

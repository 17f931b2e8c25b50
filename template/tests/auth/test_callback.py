"""The callback listener: whom it hears, what it binds, and that nobody can hold it up."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from .package import CallbackServer, ConfigError, LoginRequired, ProtocolError, callback

pytestmark = pytest.mark.anyio
GOOD = "/callback?code=CODE"


@pytest.fixture(autouse=True)
async def _nothing_unhandled() -> AsyncIterator[None]:
    """What asyncio would print with a traceback, in the middle of a sign-in."""
    found: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: found.append(context))
    yield
    assert found == []


def accept(query: str) -> str:
    """As `OAuth2Flow.read_redirect` does, in short."""
    if query == "code=CODE":
        return "CODE"
    if query == "error=access_denied":
        raise LoginRequired("declined", code="access_denied")
    raise ProtocolError("another state", code="bad_redirect" if query == "twice" else "state_mismatch")


def listener(**more: Any) -> CallbackServer:
    return CallbackServer(accept, **{"host": "127.0.0.1", **more})


async def send(port: int, target: str, *, method: str = "GET", host: str | None = None, extra: str = "") -> str:
    host = f"127.0.0.1:{port}" if host is None else host
    return await send_bytes(port, f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{extra}\r\n".encode())


async def send_bytes(port: int, request: bytes) -> str:
    """Send all of it before the first byte of the answer is read, as a browser does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(10):
        await writer.drain()
        answer = await reader.read()
    writer.close()
    return answer.decode()


async def waits(server: CallbackServer) -> bool:
    """Whether the wait goes on, so that the right answer still ends it."""
    assert (await send(server.port, GOOD)).startswith("HTTP/1.1 200 OK\r\n")
    return await server.wait(1) == "CODE"


@pytest.mark.parametrize(
    "host",
    [
        *("", "127.0.0.1", "localhost", "127.0.0.1:1", "evil.example", "evil.example:{port}", "127.0.0.2:{port}"),
        *(
            "127.0.0.1.evil.example:{port}",
            "localhost.:{port}",
            "127.0.0.1:{port}0",
            "e@127.0.0.1:{port}",
            "::1:{port}",
        ),
    ],
)
async def test_a9_another_host_is_refused(host: str) -> None:
    async with listener() as server:
        answer = await send(server.port, GOOD, host=host.replace("{port}", str(server.port)))
        assert answer.startswith("HTTP/1.1 400 Bad Request\r\n")
        assert await waits(server)


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::1]"])
async def test_a9_this_machine_has_three_names(name: str) -> None:
    async with listener() as server:
        assert (await send(server.port, GOOD, host=f"{name}:{server.port}")).startswith("HTTP/1.1 200")
        assert await server.wait(1) == "CODE"


async def test_a9_browsers_leave_out_port_80() -> None:
    async with listener() as server:
        port, server.port = server.port, 80
        assert (await send(port, GOOD, host="localhost:443")).startswith("HTTP/1.1 400")
        assert (await send(port, GOOD, host="evil.example")).startswith("HTTP/1.1 400")
        assert (await send(port, GOOD, host="localhost")).startswith("HTTP/1.1 200")


@pytest.mark.parametrize("head", ["", "Host: 127.0.0.1:{port}\r\nHost: 127.0.0.1:{port}\r\n"])
async def test_a9_exactly_one_host(head: str) -> None:
    async with listener() as server:
        head = head.replace("{port}", str(server.port))
        assert (await send_bytes(server.port, f"GET {GOOD} HTTP/1.1\r\n{head}\r\n".encode())).startswith("HTTP/1.1 400")
        assert await waits(server)


@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT", "OPTIONS", "get", "GETS", ""])
async def test_only_get_counts(method: str) -> None:
    async with listener() as server:
        assert (await send(server.port, GOOD, method=method)).startswith("HTTP/1.1 400")
        assert await waits(server)


@pytest.mark.parametrize(
    "target",
    [
        *("/?code=CODE", "/callback/?code=CODE", "/callbacks?code=CODE", "/Callback?code=CODE", "callback?code=CODE"),
        *("/x/callback?code=CODE", "//callback?code=CODE", "/callback;x?code=CODE", "/callback", "http://[", "*", ""),
        *("/callback?error=state", "/callback?twice", "/callback?code=CODE#x", "http://127.0.0.1/callback?code=CODE"),
    ],
)
async def test_only_our_path_with_an_acceptable_answer_counts(target: str) -> None:
    async with listener() as server:
        assert (await send(server.port, target)).startswith("HTTP/1.1 400")
        assert await waits(server)


async def test_a_path_of_the_persons_own_is_the_only_one() -> None:
    async with listener(path="/oauth/back") as server:
        assert server.redirect_uri == f"http://127.0.0.1:{server.port}/oauth/back"
        assert (await send(server.port, GOOD)).startswith("HTTP/1.1 400")
        assert (await send(server.port, "/oauth/back?code=CODE")).startswith("HTTP/1.1 200")
        assert await server.wait(1) == "CODE"


async def test_a_final_error_ends_the_wait_and_is_told_at_the_terminal() -> None:
    async with listener() as server:
        answer = await send(server.port, "/callback?error=access_denied")
        assert answer.startswith("HTTP/1.1 200")
        assert "Sign-in not completed" in answer
        with pytest.raises(LoginRequired, match="declined"):
            await server.wait(1)
        assert (await send(server.port, GOOD)).startswith("HTTP/1.1 400")  # too late


async def test_a2_every_page_has_the_same_headers() -> None:
    async with listener() as server:
        big = await send(server.port, GOOD, extra=f"Cookie: {'x' * callback.MAX_HEAD}\r\n")
        pages = [big, await send(server.port, "/"), await send(server.port, GOOD)]
    heads, bodies = [], []
    for page in pages:
        head, _, body = page.partition("\r\n\r\n")
        heads.append(head.split("\r\n"))
        bodies.append(body)
    assert [head[0].split()[1] for head in heads] == ["431", "400", "200"]
    assert heads[0][1:-1] == heads[1][1:-1] == heads[2][1:-1]
    policy = heads[0][2]
    assert policy.startswith("Content-Security-Policy: default-src 'none'; style-src 'sha256-")
    assert policy.endswith("; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
    assert heads[0][1] == "Content-Type: text/html; charset=utf-8"
    assert heads[0][3:-1] == [
        "X-Content-Type-Options: nosniff",
        "X-Frame-Options: DENY",
        "Referrer-Policy: no-referrer",
        "Cache-Control: no-store",
        "Connection: close",
    ]
    assert [head[-1] for head in heads] == [f"Content-Length: {len(body)}" for body in bodies]


# -- what is bound


def addresses(server: CallbackServer) -> list[str]:
    return [sock.getsockname()[0] for listener in server._servers for sock in listener.sockets]


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


async def test_a17_only_loopback_is_bound() -> None:
    six = ["::1"] if has_ipv6() else []
    for host, bound in {"127.0.0.1": ["127.0.0.1"], "localhost": ["127.0.0.1", *six], "[::1]": six}.items():
        if bound:
            async with listener(host=host) as server:
                assert addresses(server) == bound
                assert server.redirect_uri == f"http://{host}:{server.port}/callback"
                assert {sock.getsockname()[1] for it in server._servers for sock in it.sockets} == {server.port}
    async with listener() as server:  # another address of this machine
        with pytest.raises(OSError, match=r"[Cc]onnect|unreachable"):
            await asyncio.wait_for(asyncio.open_connection("127.0.0.2", server.port), 5)


async def test_a17_in_a_container_what_was_said_is_bound() -> None:
    async with listener(listen="0.0.0.0", host="localhost") as server:
        assert addresses(server) == ["0.0.0.0"]
        assert server.redirect_uri == f"http://localhost:{server.port}/callback"
        assert (await send(server.port, GOOD, host=f"192.0.2.1:{server.port}")).startswith("HTTP/1.1 400")
        assert (await send(server.port, GOOD, host=f"localhost:{server.port}")).startswith("HTTP/1.1 200")


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
async def test_a17_a_port_that_is_busy_on_the_ipv6_twin_only_is_fatal() -> None:
    """A browser that tries ::1 first would hand the code to whoever has it."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as squatter:
        port = squatter.getsockname()[1]
        with pytest.raises(ConfigError, match=f"::1 port {port} .*--port"):
            await listener(host="localhost", port=port).__aenter__()
        with socket.create_server(("127.0.0.1", port)):  # what was bound already is let go
            pass


@pytest.mark.parametrize("number", [errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT])
async def test_a17_without_ipv6_there_is_no_twin(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bind = callback._bind

    def without(address: str, port: int) -> socket.socket:
        if ":" in address:
            raise OSError(number, "no IPv6")
        return bind(address, port)

    monkeypatch.setattr(callback, "_bind", without)
    async with listener(host="localhost") as server:
        assert addresses(server) == ["127.0.0.1"]
        assert await waits(server)
    with pytest.raises(ConfigError, match="no IPv6"):  # not where nothing else is listened to
        await listener(host="[::1]").__aenter__()


async def test_a17_no_other_program_can_take_the_port_over() -> None:
    async with listener() as server:
        with pytest.raises(ConfigError, match=f"127.0.0.1 port {server.port} .*--port"):
            await listener(port=server.port).__aenter__()


async def test_a17_windows_has_an_option_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_KEEPALIVE, raising=False)
    sock = callback._bind("127.0.0.1", 0)
    with sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
async def test_a17_the_ipv6_twin_takes_no_ipv4() -> None:
    with callback._bind("::", 0) as sock:
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


async def test_a_fixed_port_can_be_used_again_at_once() -> None:
    async with listener() as server:
        port = server.port
        assert await waits(server)  # the connection that this closed first lingers in the system
    async with listener(port=port) as server:
        assert await waits(server)


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "nonsense.invalid"])
async def test_an_address_of_another_machine_is_one_line(address: str) -> None:
    with pytest.raises(ConfigError, match="Leave --listen away") as caught:
        await listener(listen=address).__aenter__()
    assert address in str(caught.value)


# -- nothing unbounded


async def silent(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /callback HTTP/1.1\r\n")
    await writer.drain()
    return reader, writer


async def closed(reader: asyncio.StreamReader, within: float) -> bool:
    with suppress(TimeoutError):
        try:
            return await asyncio.wait_for(reader.read(), within) == b""
        except ConnectionError:
            return True
    return False


async def test_silent_connections_do_not_lock_the_browser_out() -> None:
    limit = callback.MAX_CONNECTIONS
    assert limit <= 32
    async with listener(deadline=60) as server:
        held = [await silent(server.port) for _ in range(limit + 8)]
        assert all([await closed(reader, 5) for reader, _ in held[:8]])  # the oldest went
        assert len(server._open) == limit
        assert not await closed(held[-1][0], 0.05)
        assert await waits(server)
        assert await closed(held[8][0], 5)
    for _, writer in held:
        writer.close()


async def test_connections_that_ended_leave_room() -> None:
    async with listener(deadline=60) as server:
        reader, writer = await silent(server.port)
        for _ in range(callback.MAX_CONNECTIONS + 8):
            await send(server.port, "/")
        assert not await closed(reader, 0.05)
        assert len(server._open) <= 2
        writer.close()


async def test_a_connection_has_one_deadline_however_it_drips() -> None:
    assert callback.DEADLINE <= 10
    async with listener(deadline=0.5) as server:
        (mute, first), (dripping, second) = await silent(server.port), await silent(server.port)

        async def drip() -> None:
            with suppress(OSError):
                while True:
                    second.write(b"x")
                    await asyncio.sleep(0.02)

        dripper = asyncio.ensure_future(drip())
        assert await closed(mute, 10)
        assert await closed(dripping, 10)
        dripper.cancel()
        assert await waits(server)
        first.close()
        second.close()


async def test_one_that_does_not_hang_up_after_the_answer_has_the_same_deadline() -> None:
    async with listener(deadline=0.5) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert b"400 Bad Request" in await asyncio.wait_for(reader.read(), 10)
        async with asyncio.timeout(10):
            while server._open:
                await asyncio.sleep(0.01)
        writer.close()


async def test_a_head_of_64_kb_is_read_and_a_larger_one_gets_431() -> None:
    async with listener() as server:
        for size in (callback.MAX_HEAD, 300_000):
            answer = await send(server.port, GOOD, extra=f"Cookie: {'x' * size}\r\n")
            assert answer.startswith("HTTP/1.1 431 ")
            assert "clear this site's cookies" in answer
            assert "still waiting" in answer
        unended = await send_bytes(server.port, b"x" * 100_000)
        assert unended == answer  # constant
        fits = callback.MAX_HEAD - len(f"GET {GOOD} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nCookie: \r\n\r\n")
        assert fits > 60 * 1024
        answer = await send(server.port, GOOD, extra=f"Cookie: {'x' * fits}\r\n")
        assert answer.startswith("HTTP/1.1 200")
        assert await server.wait(1) == "CODE"


async def test_a_head_without_end_is_not_read_for_ever() -> None:
    async with listener(deadline=60) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        sent = 0
        with suppress(OSError):
            while sent < 64_000_000:
                writer.write(b"x" * 100_000)
                async with asyncio.timeout(10):
                    await writer.drain()
                sent += 100_000
        assert sent < 64_000_000
        writer.close()
        assert await waits(server)

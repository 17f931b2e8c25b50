"""The callback listener under attack, and the clock of the device flow."""

from __future__ import annotations

import asyncio
import socket
from typing import Any
from urllib.parse import urlencode

import pytest

from .fake_provider import FakeProvider
from .package import CallbackServer, ConfigError, LoginRequired, ProtocolError, browser_login, device_login, paste_login
from .support import flow_for

pytestmark = pytest.mark.anyio


async def send(port: int, target: str, *, method: str = "GET", host: str | None = None, extra: str = "") -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    host = host if host is not None else f"127.0.0.1:{port}"
    writer.write(f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{extra}\r\n".encode("utf-8", "surrogateescape"))
    await writer.drain()
    answer = (await reader.read()).decode()
    writer.close()
    return answer


async def test_a2_a3_a9_a19_the_listener_under_attack(provider: FakeProvider) -> None:
    flow = flow_for(provider)
    requests: list[Any] = []
    async with CallbackServer(lambda q: flow.read_redirect(requests[0], q), host="127.0.0.1") as server:
        request = await flow.begin(server.redirect_uri)
        requests.append(request)
        good = urlencode({"code": "CODE", "state": request.state, "iss": provider.base})
        xss = urlencode({"error": "<script>", "error_description": '"><img onerror=x>', "state": "<b>", "code": "<i>"})
        bad = [
            await send(server.port, f"/callback?{xss}"),
            await send(server.port, "/callback?error=access_denied"),
            await send(server.port, "/callback"),
            await send(server.port, "/favicon.ico"),
            await send(server.port, f"/<script>?{good}"),
            await send(server.port, f"/callback?{good}", method="POST"),
            await send(server.port, f"/callback?{good}", method="HEAD"),
            await send(server.port, f"/callback?{good}", host="evil.example"),
            await send(server.port, f"/callback?{good}", host=f"127.0.0.1.evil.example:{server.port}"),
            await send(server.port, f"/callback?{good}", extra="Host: evil.example\r\n"),
            await send(server.port, f"/callback?{good}&code=other"),
            await send(server.port, "/callback?state=%ff%fe&code=x"),
            await send(server.port, f"/callback?next=//evil.example&{xss}"),
            await send(server.port, "/callback?" + "&".join(f"a{n}=" for n in range(50))),
        ]
        assert len(set(bad)) == 1  # constant, whatever was sent
        for header in ("Content-Security-Policy: default-src 'none'", "X-Content-Type-Options: nosniff"):
            assert header in bad[0]
        assert bad[0].startswith("HTTP/1.1 400")
        assert "Location" not in bad[0]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(server._code), 0.01)
        answer = await send(server.port, f"/callback?{good}")
        assert answer.startswith("HTTP/1.1 200")
        assert "CODE" not in answer
        assert await server.wait(1) == "CODE"
        assert (await send(server.port, f"/callback?{good}")).startswith("HTTP/1.1 400")  # replay


async def test_a5_a_wrong_iss_ends_the_sign_in(provider: FakeProvider) -> None:
    flow, sent = flow_for(provider), []

    def tell(text: str) -> None:
        sent.append(text)

    login = asyncio.ensure_future(browser_login(flow, opener=None, tell=tell))
    while not sent:
        await asyncio.sleep(0.01)
    from urllib.parse import parse_qs, urlsplit

    url = sent[0].split()[-1]
    query = {k: v[0] for k, v in parse_qs(urlsplit(url).query).items()}
    back = urlencode({"code": "CODE", "state": query["state"], "iss": "https://evil.example"})
    await send(urlsplit(query["redirect_uri"]).port or 0, f"/callback?{back}")
    with pytest.raises(ProtocolError, match="another issuer"):
        await login
    assert provider.posts == []


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


async def test_a17_localhost_is_bound_on_both_families() -> None:
    async with CallbackServer(lambda q: q, host="localhost") as server:
        assert {s.getsockname()[0] for listener in server._servers for s in listener.sockets} >= {"127.0.0.1"}
        assert len(server._servers) == (2 if _has_ipv6() else 1)
        with pytest.raises(ConfigError):
            async with CallbackServer(lambda q: q, host="127.0.0.1", port=server.port):
                pass


async def test_paste_checks_state(provider: FakeProvider) -> None:
    def reader() -> str:
        return f"http://127.0.0.1:8085/callback?code=x&state=wrong&iss={provider.base}\n"

    with pytest.raises(ProtocolError, match="State mismatch"):
        await paste_login(flow_for(provider), reader=reader, tell=lambda _: None)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.polls: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.polls.append(self.now)


async def device(p: FakeProvider, clock: Clock) -> Any:
    return await device_login(flow_for(p), sleep=clock.sleep, monotonic=lambda: clock.now, tell=lambda _: None)


async def test_device_waits_as_rfc_8628_says(provider: FakeProvider) -> None:
    provider.device_answers = [
        "authorization_pending",
        "authorization_pending",
        "slow_down",
        "authorization_pending",
    ]
    clock = Clock()
    assert (await device(provider, clock)).access_token
    assert clock.polls == [5, 10, 15, 25, 35]


async def test_device_backs_off_and_ends(provider: FakeProvider) -> None:
    clock = Clock()
    provider.device_answers = ["authorization_pending"] * 1000
    with pytest.raises(LoginRequired, match="expired"):
        await device(provider, clock)
    assert clock.now < 900


@pytest.mark.parametrize("code", ["access_denied", "authorization_declined", "expired_token", "bad_verification_code"])
async def test_device_stops_at_a_refusal(provider: FakeProvider, code: str) -> None:
    clock = Clock()
    provider.device_answers = [code, "authorization_pending"]
    with pytest.raises(LoginRequired, match=code):
        await device(provider, clock)
    assert clock.polls == [5]


async def test_no_device_flow(provider: FakeProvider) -> None:
    with pytest.raises(ConfigError, match="no device sign-in"):
        await device_login(flow_for(provider, device_url=""))

"""The httpx.Auth: one renewal and one repeat after a 401, and the token for one origin only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from .fake_provider import FakeProvider
from .package import BearerAuth, TokenManager
from .support import flow_for

pytestmark = pytest.mark.anyio


def manager_for(p: FakeProvider, access: str = "at-dead") -> TokenManager:
    return TokenManager(flow_for(p), p.issue()["refresh_token"], access_token=access)


async def test_401_renews_once_and_repeats_once(provider: FakeProvider, tmp_path: Path) -> None:
    async with httpx.AsyncClient(auth=BearerAuth(manager_for(provider), provider.base)) as client:
        assert (await client.get(f"{provider.base}/user")).json() == {"login": "ada"}
        assert (await client.get(f"{provider.base}/user")).status_code == 200
    assert provider.refreshes == 1


def test_sync_client(provider: FakeProvider) -> None:
    with httpx.Client(auth=BearerAuth(manager_for(provider), provider.base)) as client:
        assert client.get(f"{provider.base}/user").json() == {"login": "ada"}


async def test_a_second_401_is_returned(provider: FakeProvider) -> None:
    sent: list[str] = []

    def api(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers.get("Authorization", ""))
        return httpx.Response(401)

    auth = BearerAuth(manager_for(provider), "https://api.example")
    async with httpx.AsyncClient(auth=auth, transport=httpx.MockTransport(api)) as client:
        assert (await client.get("https://api.example/x")).status_code == 401
        assert len(sent) == 2
        assert len(set(sent)) == 2
        for elsewhere in ("https://evil.example/x", "http://api.example/x", "https://api.example:444/x"):
            await client.get(elsewhere)
    assert sent[2:] == ["", "", ""]


async def test_a_stream_is_not_sent_twice(provider: FakeProvider) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"x"

    provider.faults = [(401, {}, b"")]
    async with httpx.AsyncClient(auth=BearerAuth(manager_for(provider), provider.base)) as client:
        assert (await client.post(f"{provider.base}/api", content=body())).status_code == 401
    assert provider.refreshes == 0

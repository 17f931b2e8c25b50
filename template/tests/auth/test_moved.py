"""The provider moves its token endpoint: said where people look, as long as it lasts; and nothing is sent after it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from pkg import answers

from .fake_provider import FakeProvider
from .package import CustomOAuth, LoginRequired, ProtocolError, TokenManager, TransientAuthError, key_of, transport
from .support import Clock, flow_for, manager_for, sign_in, store_at, stored
from .test_commands import Cli

pytestmark = pytest.mark.anyio
CHANGED = "The provider's token endpoint changed since the sign-in. Run: demo login"
HTML = {"Content-Type": "text/html"}
JSON = {"Content-Type": "application/json"}
GONE: dict[str, tuple[int, dict[str, str], bytes]] = {
    "404": (404, HTML, b"<h1>Not Found</h1>"),
    "404 json": (404, JSON, json.dumps({"status": 404, "error": "Not Found", "path": "/token"}).encode()),
    "410": (410, {}, b""),
    "403": (403, HTML, b"<h1>Forbidden</h1>"),
    "405": (405, {}, b""),
    "301": (301, {"Location": "https://elsewhere.example/token"}, b""),
    "308": (308, {"Location": "https://elsewhere.example/token"}, b""),
    "html": (200, HTML, b"<!doctype html><title>We have moved</title>"),
}


def manager_of(p: FakeProvider, tmp_path: Path, **more: Any) -> TokenManager:
    """Of a provider whose endpoints come from its issuer's metadata."""
    flow = CustomOAuth(p.client_id, p.client_secret, name="Fake", issuer=p.base)
    return TokenManager(flow, store=store_at(tmp_path), command="demo", sleep=lambda _: None, **more)


@pytest.mark.parametrize("how", GONE)
async def test_a_moved_endpoint_is_said_at_once(provider: FakeProvider, tmp_path: Path, how: str) -> None:
    before = sign_in(provider, tmp_path)
    provider.metadata = {"token_endpoint": f"{provider.base}/new/token"}
    provider.faults = [GONE[how]] * 3
    manager = manager_of(provider, tmp_path)
    for _ in range(3):
        with pytest.raises(LoginRequired, match=r"token endpoint changed since the sign-in.*Run: demo login"):
            await manager.get_token()
    assert "/new/token" not in provider.requests
    assert provider.requests.count("/token") == 3  # the old one is tried again: it may come back
    for seen in (manager.status(), manager_for(provider, tmp_path).status()):  # in this process and in another
        assert (seen["signed_in"], seen["last_error"]) == (False, "endpoints_changed")
        assert "token endpoint changed" in seen["problem"]
    kept = stored(provider, tmp_path)
    assert (kept.state, kept.refresh_token, kept.access_token) == ("ok", before.refresh_token, before.access_token)
    assert await manager.get_token() == stored(provider, tmp_path).access_token  # it is back
    assert (manager.status()["signed_in"], manager.status()["last_error"], manager.status()["problem"]) == (
        True,
        "",
        "",
    )


@pytest.mark.parametrize("how", GONE)
@pytest.mark.parametrize("discovered", [False, True])
async def test_one_that_stays_away_is_said_the_second_time(
    provider: FakeProvider, tmp_path: Path, how: str, discovered: bool
) -> None:
    before = sign_in(provider, tmp_path)
    provider.faults = [GONE[how]] * 3
    manager = (manager_of if discovered else manager_for)(provider, tmp_path)
    with pytest.raises(ProtocolError, match=r"If this lasts, run: demo login") as first:
        await manager.get_token()
    assert manager.status()["last_error"] == first.value.code
    assert manager_for(provider, tmp_path).status()["last_error"] == first.value.code
    for _ in range(2):
        with pytest.raises(LoginRequired, match=r"no longer answers as one.*Run: demo login"):
            await (manager_of if discovered else manager_for)(provider, tmp_path).get_token()
    seen = manager_for(provider, tmp_path).status()
    assert (seen["signed_in"], seen["last_error"]) == (False, "endpoint_gone")
    assert stored(provider, tmp_path).refresh_token == before.refresh_token
    assert await manager.get_token()
    seen = manager.status()
    assert (seen["signed_in"], seen["last_error"], seen["problem"]) == (True, "", "")


@pytest.mark.parametrize("how", ["down", "unreachable", "silent"])
async def test_an_old_endpoint_that_only_fails_may_have_moved_too(
    provider: FakeProvider, tmp_path: Path, how: str
) -> None:
    sign_in(provider, tmp_path)
    fault = (502, {}, b"") if how == "down" else (200, {"Content-Length": "9"}, b"")
    provider.faults = [fault] * 4
    provider.metadata = {"token_endpoint": f"{provider.base}/new/token"}
    manager = manager_of(provider, tmp_path)

    async def send(method: str, url: str, *more: Any, **options: Any) -> Any:
        if url.endswith("/token") and how == "unreachable":
            raise TransientAuthError("Cannot connect to the provider. Try again later.", code="unreachable")
        return await transport.send(method, url, *more, **options)

    manager._flow._send = send
    with pytest.raises(LoginRequired, match="Run: demo login"):
        await manager.get_token()
    assert manager.status()["last_error"] == "endpoints_changed"
    assert "/new/token" not in provider.requests


async def test_a_provider_that_is_down_has_not_moved(provider: FakeProvider, tmp_path: Path) -> None:
    sign_in(provider, tmp_path)
    provider.faults = [(503, {}, b"")] * 6
    manager = manager_of(provider, tmp_path)
    for _ in range(3):
        with pytest.raises(TransientAuthError, match="Try again later"):
            await manager.get_token()
    seen = manager_for(provider, tmp_path).status()
    assert (seen["signed_in"], seen["last_error"], seen["problem"]) == (True, "", "")


async def test_what_is_left_of_a_token_is_used_meanwhile(provider: FakeProvider, tmp_path: Path) -> None:
    old = sign_in(provider, tmp_path, left=3600)
    clock = Clock()
    manager = manager_for(provider, tmp_path, **clock.both)
    assert await manager.get_token() == old.access_token
    provider.faults = [GONE["404"]] * 9
    clock.passes(3400)
    for _ in range(3):
        assert await manager.get_token() == old.access_token
        while manager._inflight:
            pass
        clock.passes(40)
    assert manager.status()["signed_in"] is False  # it has to be renewed by now, and cannot be
    clock.passes(90)
    with pytest.raises(LoginRequired, match="Run: demo login"):
        await manager.get_token()


async def test_settings_that_are_set_back_work_again(provider: FakeProvider, tmp_path: Path) -> None:
    sign_in(provider, tmp_path)
    other = flow_for(provider, token_url=f"{provider.base}/other/token")
    with pytest.raises(LoginRequired, match="changed since the sign-in"):
        await TokenManager(other, store=store_at(tmp_path)).get_token()
    assert provider.posts == []
    assert stored(provider, tmp_path).state == "ok"
    assert await manager_for(provider, tmp_path).get_token()
    assert store_at(tmp_path).load(key_of(other)) == stored(provider, tmp_path)


def test_status_ready_and_the_tool_name_login(provider: FakeProvider, tmp_path: Path) -> None:
    provider.metadata = {"token_endpoint": f"{provider.base}/new/token"}
    provider.faults = [GONE["404"]]
    sign_in(provider, tmp_path / "data")
    cli = Cli(provider, tmp_path, **dict.fromkeys(answers.AUTH_KEYS, "a-key-of-some-length"))
    code, _, err = cli.run("token-works")
    assert code == 1
    assert err.endswith(f"{CHANGED}\n")
    code, out, _ = cli.run("status")
    assert code == 1
    assert "Run: demo login" in out
    assert "last error:  endpoints_changed The provider's token endpoint changed" in out
    server = cli.start("serve", "--http", "--port", "0")
    try:
        url, seen = "", ""
        for line in server.stderr or ():
            seen += line
            if found := re.search(r"Serving (http://\S+)/mcp", line):
                url = found[1]
            if "startup complete" in line:
                break
        assert f"Not ready: {CHANGED}" in seen
        ready = httpx.get(f"{url}/ready")
        assert (ready.status_code, ready.json()["reasons"]) == (503, [f"sign-in: {CHANGED}"])
        code, _, err = cli.run("health", "--url", url)
        assert (code, CHANGED in err) == (1, True)
        assert cli.run("health", "--url", url, "--without-sign-in")[0] == 0
        assert cli.run("token-works")[0] == 0  # it works again, here as well
        assert httpx.get(f"{url}/ready").status_code == 200
    finally:
        server.kill()
        server.communicate(timeout=10)

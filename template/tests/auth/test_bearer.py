"""The httpx.Auth: the token for one origin only; and what a 401 of the API is worth, asked by either kind of client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from .fake_provider import FakeProvider
from .package import BearerAuth, LoginRequired, TokenManager, TransientAuthError, oauth2
from .support import flow_for, manager_for, sign_in, store_at, stored

API = "https://api.example"
ELSEWHERE = (
    "https://evil.example/x",
    "http://api.example/x",
    "https://api.example:444/x",
    "http://api.example:443/x",
    "https://api.example.evil/x",
)


class Api:
    """An API that answers `status` and keeps what it is sent, and how."""

    def __init__(self, status: int | Callable[[str], int] = 401) -> None:
        self.status = status
        self.sent: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        self.sent.append(token)
        return httpx.Response(self.status if isinstance(self.status, int) else self.status(token))


def ask_async(auth: httpx.Auth, api: Api, urls: list[str]) -> list[int]:
    async def ask() -> list[int]:
        async with httpx.AsyncClient(auth=auth, transport=httpx.MockTransport(api)) as client:
            return [(await client.get(url)).status_code for url in urls]

    return asyncio.run(ask())


def ask_sync(auth: httpx.Auth, api: Api, urls: list[str]) -> list[int]:
    with httpx.Client(auth=auth, transport=httpx.MockTransport(api)) as client:
        return [client.get(url).status_code for url in urls]


Ask = Callable[[httpx.Auth, Api, list[str]], list[int]]


@pytest.fixture(params=[ask_async, ask_sync])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Both kinds of client."""
    return request.param  # type: ignore[no-any-return]


def given(p: FakeProvider, access: str = "at-dead") -> TokenManager:
    return TokenManager(flow_for(p), p.issue()["refresh_token"], access_token=access)


def live(p: FakeProvider) -> Callable[[str], int]:
    return lambda token: 200 if token in p.access else 401


def test_401_renews_once_and_repeats_once(provider: FakeProvider, ask: Ask) -> None:
    api = Api(live(provider))
    assert ask(BearerAuth(given(provider), API), api, [f"{API}/x"] * 2) == [200, 200]
    assert (provider.refreshes, api.sent[0], len(api.sent)) == (1, "at-dead", 3)


def test_a_second_401_is_returned(provider: FakeProvider, ask: Ask) -> None:
    api = Api(401)
    assert ask(BearerAuth(given(provider), API), api, [f"{API}/x"]) == [401]
    assert (len(api.sent), len(set(api.sent))) == (2, 2)


@pytest.mark.parametrize("status", [200, 403, 429, 500])
def test_other_answers_ask_nothing(provider: FakeProvider, ask: Ask, status: int) -> None:
    api = Api(status)
    assert ask(BearerAuth(given(provider), API), api, [f"{API}/x"] * 3) == [status] * 3
    assert (provider.requests, api.sent) == ([], ["at-dead"] * 3)


def test_the_token_goes_to_one_origin_only(provider: FakeProvider, ask: Ask) -> None:
    api = Api(401)
    ask(BearerAuth(given(provider), f"{API}/v1"), api, list(ELSEWHERE))
    assert api.sent == [""] * len(ELSEWHERE)
    assert ask(BearerAuth(given(provider), f"{API}:443/v1"), Api(200), [f"{API}/y"]) == [200]
    assert provider.requests == []


def test_a_401_after_a_redirect_elsewhere_is_no_question(provider: FakeProvider) -> None:
    def api(request: httpx.Request) -> httpx.Response:
        return httpx.Response(401) if request.url.host != "api.example" else httpx.Response(302, headers=there)

    there = {"Location": ELSEWHERE[0]}
    with httpx.Client(
        auth=BearerAuth(given(provider), API), transport=httpx.MockTransport(api), follow_redirects=True
    ) as client:
        assert client.get(f"{API}/x").status_code == 401
    assert provider.requests == []


async def chunks() -> AsyncIterator[bytes]:
    yield b"x"


@pytest.mark.anyio
async def test_a_stream_is_not_sent_twice(provider: FakeProvider) -> None:
    provider.faults = [(401, {}, b"")] * 2
    async with httpx.AsyncClient(auth=BearerAuth(given(provider), provider.base)) as client:
        assert (await client.post(f"{provider.base}/api", content=chunks())).status_code == 401
        assert provider.requests == ["/api"]
        again = await client.post(f"{provider.base}/api", content=b"x")
    assert provider.requests[1:] == ["/api", "/token", "/api"]
    assert again.status_code == 401


def test_a_stream_of_a_sync_client_is_not_sent_twice(provider: FakeProvider) -> None:
    provider.faults = [(401, {}, b"")]
    with httpx.Client(auth=BearerAuth(given(provider), provider.base)) as client:
        assert client.post(f"{provider.base}/api", content=iter([b"x"])).status_code == 401
    assert provider.requests == ["/api"]


# -- a path that answers 401 to a good token


def test_twenty_refusals_cost_one_renewal(provider: FakeProvider, tmp_path: Path, ask: Ask) -> None:
    sign_in(provider, tmp_path, left=3600)
    api = Api(401)
    assert ask(BearerAuth(manager_for(provider, tmp_path), API), api, [f"{API}/odd"] * 20) == [401] * 20
    assert provider.refreshes == 1
    assert len(api.sent) == 21
    # Nor does the next program on this machine renew what was renewed just now.
    assert ask(BearerAuth(manager_for(provider, tmp_path), API), api, [f"{API}/odd"] * 5) == [401] * 5
    assert provider.refreshes == 1
    assert stored(provider, tmp_path).state == "ok"


def test_a_token_that_was_renewed_long_ago_is_renewed_once_more(provider: FakeProvider, tmp_path: Path) -> None:
    manager = manager_for(provider, tmp_path)
    long_ago = sign_in(provider, tmp_path, left=3600, renewed=True, obtained_at=time.time() - 301)
    assert asyncio.run(manager.after_401(long_ago.access_token)) != long_ago.access_token
    assert provider.refreshes == 1
    old = sign_in(provider, tmp_path, left=3600, renewed=True, obtained_at=time.time() - 290)
    assert asyncio.run(manager.after_401(old.access_token)) == old.access_token
    future = sign_in(provider, tmp_path, left=3600, renewed=True, obtained_at=time.time() + 90)  # clock was set back
    assert asyncio.run(manager.after_401(future.access_token)) != future.access_token
    assert provider.refreshes == 2


def test_fifty_refusals_at_once_cost_one_renewal(provider: FakeProvider, tmp_path: Path) -> None:
    sign_in(provider, tmp_path, left=3600)
    provider.delay = 0.1
    api = Api(401)

    async def ask() -> None:
        auth = BearerAuth(manager_for(provider, tmp_path), API)
        async with httpx.AsyncClient(auth=auth, transport=httpx.MockTransport(api)) as client:
            await asyncio.gather(*(client.get(f"{API}/odd") for _ in range(50)))

    asyncio.run(ask())
    assert (provider.refreshes, provider.reuses) == (1, 0)


def test_one_that_somebody_else_renewed_is_taken_over(provider: FakeProvider, tmp_path: Path) -> None:
    old = sign_in(provider, tmp_path, left=3600)
    manager = manager_for(provider, tmp_path)
    assert asyncio.run(manager.get_token()) == old.access_token
    new = sign_in(provider, tmp_path, left=3600)
    assert asyncio.run(manager.after_401(old.access_token)) == new.access_token
    assert provider.refreshes == 0


@pytest.mark.parametrize(("status", "code"), [(503, "http_503"), (400, "invalid_grant")])
def test_a_question_that_fails_raises_what_the_provider_said(
    provider: FakeProvider, tmp_path: Path, ask: Ask, status: int, code: str
) -> None:
    sign_in(provider, tmp_path, left=3600)
    provider.faults = [(status, {"Content-Type": "application/json"}, b'{"error":"invalid_grant"}')] * 2
    kind = TransientAuthError if status == 503 else LoginRequired
    with pytest.raises(kind) as caught:
        ask(BearerAuth(manager_for(provider, tmp_path, sleep=lambda _: None), API), Api(401), [f"{API}/x"])
    assert caught.value.code == code
    assert stored(provider, tmp_path).state == ("ok" if status == 503 else "needs_login")


# -- a token that cannot be renewed: as of every GitHub OAuth App


def lasting(p: FakeProvider, tmp_path: Path, **more: Any) -> TokenManager:
    """A manager of a sign-in without expiry and refresh token."""
    sign_in(p, tmp_path, **{"expires_at": None, "refresh_token": None} | more)
    flow = flow_for(p, userinfo_url=f"{p.base}/userinfo")
    return TokenManager(flow, store=store_at(tmp_path), command="demo")


@pytest.mark.parametrize("status", [200, 204, 302, 400, 403, 404, 429, 500, 503])
def test_only_a_401_of_the_provider_ends_a_lasting_sign_in(
    provider: FakeProvider, tmp_path: Path, ask: Ask, status: int
) -> None:
    manager = lasting(provider, tmp_path)
    provider.user_status = status
    before = stored(provider, tmp_path)
    assert ask(BearerAuth(manager, API), Api(401), [f"{API}/odd"] * 20) == [401] * 20
    assert stored(provider, tmp_path) == before
    assert manager.status()["signed_in"]
    assert provider.requests == ["/userinfo"]  # asked once, not twenty times


def test_a_401_of_the_provider_ends_it_for_everybody(provider: FakeProvider, tmp_path: Path, ask: Ask) -> None:
    manager = lasting(provider, tmp_path)
    provider.user_status = 401
    with pytest.raises(LoginRequired, match=r"Invalid token.*Run: demo login"):
        ask(BearerAuth(manager, API), Api(401), [f"{API}/x"])
    kept = stored(provider, tmp_path)
    assert (kept.state, kept.reason) == ("needs_login", "token_rejected")
    assert manager.status()["signed_in"] is False
    for other in (manager, manager_for(provider, tmp_path)):
        with pytest.raises(LoginRequired, match=r"no longer accepts.*Run: demo login"):
            asyncio.run(other.get_token())


def test_without_such_an_address_it_is_never_ended(provider: FakeProvider, tmp_path: Path, ask: Ask) -> None:
    lasting(provider, tmp_path)
    manager = manager_for(provider, tmp_path)
    before = stored(provider, tmp_path)
    assert ask(BearerAuth(manager, API), Api(401), [f"{API}/odd"] * 20) == [401] * 20
    assert asyncio.run(manager.get_token()) == before.access_token
    assert stored(provider, tmp_path) == before
    assert provider.requests == []


def test_a_provider_that_cannot_be_reached_ends_nothing(provider: FakeProvider, tmp_path: Path) -> None:
    lasting(provider, tmp_path)
    before = stored(provider, tmp_path)
    flow = flow_for(provider, userinfo_url="http://127.0.0.1:1/userinfo")
    manager = TokenManager(flow, store=store_at(tmp_path))
    assert asyncio.run(manager.after_401(before.access_token)) == before.access_token
    assert stored(provider, tmp_path) == before


def test_a_provider_that_stays_silent_ends_nothing_and_holds_up_nobody_for_long(
    provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(provider, tmp_path, expires_at=None, refresh_token=None)

    async def send(*_: Any, **__: Any) -> Any:
        await asyncio.sleep(60)

    monkeypatch.setattr(oauth2, "DEADLINE", 0.1)
    flow = flow_for(provider, userinfo_url=f"{provider.base}/userinfo", send=send)
    manager = TokenManager(flow, store=store_at(tmp_path))
    before = stored(provider, tmp_path)
    began = time.monotonic()
    assert asyncio.run(manager.after_401(before.access_token)) == before.access_token
    assert stored(provider, tmp_path) == before
    discovered = flow_for(provider, discover=True, send=send)
    assert asyncio.run(discovered.moved_from("https://old.example/token")) is False
    assert asyncio.run(discovered.rejects("at-1")) is False
    assert time.monotonic() - began < 8  # the metadata's own places have 10 seconds each


def test_the_user_endpoint_is_the_one_of_the_sign_in(provider: FakeProvider, tmp_path: Path) -> None:
    """A swapped metadata document collects no tokens: what was not known at the sign-in is not asked."""
    lasting(provider, tmp_path)
    provider.user_status = 401
    provider.metadata = {"userinfo_endpoint": f"{provider.base}/swapped/userinfo"}
    flow = flow_for(provider, discover=True)
    token = stored(provider, tmp_path).access_token
    manager = TokenManager(flow, store=store_at(tmp_path))
    assert asyncio.run(manager.after_401(token)) == token
    assert provider.requests == []
    record = sign_in(
        provider, tmp_path, refresh_token=None, expires_at=None, userinfo_url=f"{provider.base}/mine/userinfo"
    )
    with pytest.raises(LoginRequired):
        asyncio.run(manager.after_401(record.access_token))
    assert provider.requests == ["/mine/userinfo"]


def test_a_sign_in_that_came_meanwhile_is_not_ended(provider: FakeProvider, tmp_path: Path) -> None:
    manager = lasting(provider, tmp_path)
    old = stored(provider, tmp_path)
    new: list[str] = []

    async def rejects(token: str, userinfo_url: str = "", token_url: str = "") -> bool:
        new.append(sign_in(provider, tmp_path, left=3600).access_token)
        return True

    manager._flow.rejects = rejects  # type: ignore[method-assign]
    assert asyncio.run(manager.after_401(old.access_token)) == new[0]
    assert stored(provider, tmp_path).state == "ok"


def test_a_given_token_is_asked_about_as_well(provider: FakeProvider, ask: Ask) -> None:
    manager = TokenManager(flow_for(provider, userinfo_url=f"{provider.base}/user"), access_token="at-given-and-dead")
    with pytest.raises(LoginRequired):
        ask(BearerAuth(manager, API), Api(401), [f"{API}/x"])
    good = provider.issue()["access_token"]
    manager = TokenManager(flow_for(provider, userinfo_url=f"{provider.base}/user"), access_token=good)
    assert ask(BearerAuth(manager, API), Api(401), [f"{API}/x"] * 3) == [401] * 3


def test_the_answer_is_remembered_for_a_minute(provider: FakeProvider, tmp_path: Path) -> None:
    running = [0.0]
    sign_in(provider, tmp_path, expires_at=None, refresh_token=None)
    flow = flow_for(provider, userinfo_url=f"{provider.base}/userinfo")
    manager = TokenManager(flow, store=store_at(tmp_path), monotonic=lambda: running[0])
    token = stored(provider, tmp_path).access_token
    for running[0] in (0.0, 30.0, 59.0, 61.0, 100.0):
        assert asyncio.run(manager.after_401(token)) == token
    assert provider.requests == ["/userinfo"] * 2
    provider.user_status = 401
    running[0] += 61
    with pytest.raises(LoginRequired):
        asyncio.run(manager.after_401(token))

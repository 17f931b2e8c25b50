"""Who is let in, without a process: tokens that come, go and cannot be read, on a clock that the test sets."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import anyio
import anyio.to_thread
import httpx
import pytest
from conftest import TOKEN
from mcp.server.auth.middleware.auth_context import get_access_token
from pkg import answers, errors, inbound
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

FIRST = "first-token-long-enough"
SECOND = "second-token-long-enough"
# Of the right length, of another case, a part, more than it, and nothing like it.
WRONG = (
    FIRST[:-1] + "X",
    "X" + FIRST[1:],
    FIRST.upper(),
    FIRST[:-1],
    FIRST + "h",
    f" {FIRST}",
    f"{FIRST} ",
    "",
    "\udcff",
    "0" * len(FIRST),
)


@dataclass
class Tokens:
    """A list of tokens that the test changes, and a clock that it sets."""

    tokens: Sequence[str] | errors.ServerError = ()
    now: float = 0.0
    reads: int = 0
    log: list[str] = field(default_factory=list)

    def read(self) -> tuple[str, ...]:
        self.reads += 1
        if isinstance(self.tokens, errors.ServerError):
            raise self.tokens
        return tuple(self.tokens)

    def verifier(self, *, closed: bool = False) -> inbound.BearerTokenVerifier:
        return inbound.BearerTokenVerifier(self.read, closed=closed, clock=lambda: self.now)

    def later(self, tokens: Sequence[str] | errors.ServerError) -> None:
        """A second later, the list is another one."""
        self.tokens = tokens
        self.now += 1.0


async def _reached(_: Request) -> Response:
    caller = get_access_token()  # as tools may ask
    return PlainTextResponse(caller.client_id if caller else "nobody")


def behind_the_gate(verifier: inbound.BearerTokenVerifier) -> httpx.AsyncClient:
    app = Starlette(routes=[Route("/{path:path}", _reached, methods=["GET", "POST"])])
    inbound.protect(app, verifier, verifier.asks)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.anyio
async def test_tokens_rotate_without_a_restart() -> None:
    tokens = Tokens([FIRST])
    verifier = tokens.verifier()
    first = await verifier.verify_token(FIRST)
    assert first is not None
    tokens.later([FIRST, SECOND])
    second = await verifier.verify_token(SECOND)
    assert second is not None
    # Sessions of one are not open to the other, and no log shows a token by way of its name.
    assert second.client_id != first.client_id
    assert FIRST[:4] not in first.client_id
    assert await verifier.verify_token(FIRST) == first
    tokens.later([SECOND])
    assert await verifier.verify_token(FIRST) is None


@pytest.mark.anyio
@pytest.mark.parametrize("wrong", WRONG)
async def test_a_wrong_token_is_not_accepted(wrong: str) -> None:
    assert await Tokens([SECOND, FIRST]).verifier().verify_token(wrong) is None


@pytest.mark.anyio
@pytest.mark.parametrize("part", [slice(2), slice(-2, None)])
async def test_a_token_whose_digest_is_alike_in_part_is_not_accepted(part: slice) -> None:
    alike = sha256(FIRST.encode()).digest()[part]
    guesses = (f"guess-{number}" for number in itertools.count())
    near = next(guess for guess in guesses if sha256(guess.encode()).digest()[part] == alike)
    assert await Tokens([FIRST]).verifier().verify_token(near) is None


@pytest.mark.anyio
async def test_the_list_is_read_once_a_second_however_many_ask() -> None:
    tokens = Tokens([FIRST])
    verifier = tokens.verifier()
    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(verifier.verify_token, FIRST)
    tokens.now = 0.99
    assert await verifier.verify_token(FIRST)
    assert tokens.reads == 1
    tokens.now = 1.0
    assert await verifier.verify_token(FIRST)
    assert tokens.reads == 2


@pytest.mark.anyio
@pytest.mark.parametrize(
    "gone", [(), errors.CredentialError("cannot be read"), errors.UsageError("token 1: too short")]
)
async def test_tokens_that_go_or_cannot_be_read_let_nobody_in(
    gone: Sequence[str] | errors.ServerError, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = Tokens([FIRST])
    verifier = tokens.verifier()
    async with behind_the_gate(verifier) as client:
        assert (await client.post("/mcp", headers=bearer(FIRST))).status_code == 200
        tokens.later(gone)
        with caplog.at_level(logging.ERROR):
            assert (await client.post("/mcp", headers=bearer(FIRST))).status_code == 401
        assert (await client.post("/mcp")).status_code == 401
        said = str(gone) if gone else "MCP_BEARER_TOKENS is gone"
        assert [it.message for it in caplog.records if it.levelno == logging.ERROR] == [
            f"No bearer token is accepted: {said}"
        ]
        tokens.later([SECOND])
        assert (await client.post("/mcp", headers=bearer(SECOND))).text.startswith("bearer-")
        assert (await client.post("/mcp", headers=bearer(FIRST))).status_code == 401


@pytest.mark.anyio
@pytest.mark.parametrize("appear", [[FIRST], errors.CredentialError("cannot be read")])
async def test_tokens_that_appear_close_it_within_a_second_and_for_good(
    appear: Sequence[str] | errors.ServerError,
) -> None:
    tokens = Tokens()
    async with behind_the_gate(tokens.verifier()) as client:
        assert (await client.post("/mcp")).text == "nobody"
        tokens.later(appear)
        assert (await client.post("/mcp")).status_code == 401
        tokens.later(())
        assert (await client.post("/mcp")).status_code == 401


@pytest.mark.anyio
async def test_what_was_closed_at_the_start_is_closed_though_the_tokens_are_gone_by_the_first_request() -> None:
    async with behind_the_gate(Tokens().verifier(closed=True)) as client:
        assert (await client.post("/mcp")).status_code == 401


@pytest.mark.anyio
async def test_a_token_nobody_asked_for_is_no_hindrance() -> None:
    async with behind_the_gate(Tokens().verifier()) as client:
        assert (await client.post("/mcp", headers=bearer(FIRST))).text == "nobody"


FORWARDED = [
    {"Forwarded": "for=192.0.2.1"},
    {"X-Forwarded-For": "192.0.2.1"},
    {"X-FORWARDED-HOST": "mcp.example.com"},
    {"x-forwarded-proto": "https"},
    {"X-Forwarded-Anything": ""},
    {"Via": "1.1 Caddy"},
    {"X-Real-IP": "127.0.0.1"},
]


@pytest.mark.anyio
@pytest.mark.parametrize("header", FORWARDED)
@pytest.mark.parametrize("path", ["/mcp", "/mcp/", "/anything", "/healthy", "/health/", "/ready/x"])
async def test_what_a_proxy_passes_on_needs_a_token(header: dict[str, str], path: str) -> None:
    tokens = Tokens()
    async with behind_the_gate(tokens.verifier()) as client:
        refused = await client.post(path, headers=header)
        assert refused.status_code == 403
        why = refused.json()["error_description"]
        assert "A proxy or tunnel passed this request on" in why
        assert "Set MCP_BEARER_TOKENS" in why
        assert (await client.post(path, headers={"X-Forwarded": "1", "X-Real": "1"})).status_code == 200
        # With a token it may come from anywhere; to be alive and ready is no secret.
        tokens.later([FIRST])
        assert (await client.post(path, headers={**header, **bearer(FIRST)})).status_code == 200
        assert (await client.post(path, headers=header)).status_code == 401
        for public in ("/health", "/ready"):
            assert (await client.get(public, headers=header)).status_code == 200


@pytest.mark.anyio
@pytest.mark.parametrize(
    "path",
    ["/mcp", "/", "/healthx", "/healt", "/health/", "//health", "/health/../mcp", "/HEALTH", "/ready/", "/x/health"],
)
async def test_only_the_public_paths_themselves_are_public(path: str) -> None:
    async with behind_the_gate(Tokens([FIRST]).verifier()) as client:
        assert (await client.get(path)).status_code == 401
        assert (await client.get(path, headers=bearer(FIRST))).status_code == 200
        assert (await client.get("/health")).status_code == 200
        assert (await client.get("/ready")).status_code == 200


@pytest.mark.anyio
async def test_the_challenge_has_an_error_only_where_something_was_brought() -> None:
    async with behind_the_gate(Tokens([FIRST]).verifier()) as client:
        bare = await client.post("/mcp")
        assert bare.headers["WWW-Authenticate"] == f'Bearer realm="{answers.COMMAND}"'
        assert bare.json() == {"error": "unauthorized"}
        for wrong in WRONG[:-2]:
            refused = await client.post("/mcp", headers=bearer(wrong))
            assert refused.status_code == 401
            assert refused.headers["WWW-Authenticate"] == (
                f'Bearer realm="{answers.COMMAND}", error="invalid_token", '
                'error_description="The bearer token is not valid"'
            )


@pytest.mark.anyio
async def test_reading_the_tokens_holds_up_no_other_request() -> None:
    threads: list[threading.Thread] = []

    def slow() -> tuple[str, ...]:
        threads.append(threading.current_thread())
        return (FIRST,)

    assert await inbound.BearerTokenVerifier(slow).verify_token(FIRST)
    assert threading.current_thread() not in threads


@pytest.mark.anyio
async def test_the_gate_has_a_thread_of_its_own() -> None:
    shared = anyio.to_thread.current_default_thread_limiter()
    for number in range(int(shared.total_tokens)):
        shared.acquire_on_behalf_of_nowait(number)  # as slow tools do
    try:
        with anyio.fail_after(10):
            assert await Tokens([TOKEN]).verifier().verify_token(TOKEN)
    finally:
        for number in range(int(shared.total_tokens)):
            shared.release_on_behalf_of(number)

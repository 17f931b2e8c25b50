"""The log's second belt: whatever is secret in a sign-in is blotted out from the moment it is known, whoever logs it."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from .fake_provider import FakeProvider
from .package import OAuth2Token, PKCECodeVerifier, TokenManager, TokenRecord, logs
from .support import flow_for, manager_for, sign_in, stored


@pytest.fixture
def said() -> Iterator[Callable[[str], str]]:
    """What the log shows of what a library says."""
    logger = logging.getLogger("some.library")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs._HidingFormatter("%(message)s"))
    logger.addHandler(handler)

    def said(text: str) -> str:
        stream.seek(0)
        stream.truncate()
        logger.warning("sent: %s", text)
        try:
            raise ValueError(f"quoted {text}")
        except ValueError:
            logger.exception("failed")
        return stream.getvalue()

    yield said
    logger.removeHandler(handler)


def hidden(said: Callable[[str], str], *secrets: str | None) -> None:
    for secret in secrets:
        assert secret
        shown = said(secret)
        assert secret not in shown
        assert shown.count("***") >= 2


def test_tokens_are_hidden_when_they_are_made(said: Callable[[str], str]) -> None:
    OAuth2Token("access/of=an+answer", "refresh/of=an+answer")
    TokenRecord("access-of-a-record", "refresh-of-a-record")
    hidden(said, "access/of=an+answer", "refresh/of=an+answer", "access-of-a-record", "refresh-of-a-record")
    hidden(said, quote("access/of=an+answer", safe=""), "refresh%2Fof%3Dan%2Banswer")  # as a form or a URL has them
    assert "plain words" in said("plain words")
    TokenRecord("", None)
    OAuth2Token("short")
    assert "short" in said("short")


def test_given_tokens_are_hidden(provider: FakeProvider, said: Callable[[str], str]) -> None:
    TokenManager(flow_for(provider), "refresh-from-the-environment", access_token="access-from-the-environment")
    hidden(said, "refresh-from-the-environment", "access-from-the-environment")


def test_what_is_stored_and_what_comes_in_its_place_are_hidden(
    provider: FakeProvider, tmp_path: Path, said: Callable[[str], str]
) -> None:
    old = sign_in(provider, tmp_path)
    logs._hidden.clear()
    asyncio.run(manager_for(provider, tmp_path).get_token())
    new = stored(provider, tmp_path)
    hidden(said, old.access_token, old.refresh_token, new.access_token, new.refresh_token, provider.client_secret)


def test_what_a_sign_in_sends_is_hidden(provider: FakeProvider, said: Callable[[str], str]) -> None:
    flow = flow_for(provider, client_secret="a-secret-of-the-client")
    request = asyncio.run(flow.begin("http://127.0.0.1:1/callback"))
    hidden(said, request.state, request.verifier)
    verifier = PKCECodeVerifier.generate().verifier
    with pytest.raises(Exception, match="refused"):
        asyncio.run(flow.exchange_code("code-of-the-redirect", verifier, "http://127.0.0.1:1/callback"))
    hidden(said, "code-of-the-redirect", verifier, "a-secret-of-the-client")
    asyncio.run(flow.post(f"{provider.base}/token", {"device_code": "a-device-code", "token": "to-be-revoked"}))
    hidden(said, "a-device-code", "to-be-revoked")


def test_a_secret_for_basic_is_hidden(provider: FakeProvider, said: Callable[[str], str]) -> None:
    flow = flow_for(provider, client_secret="a-basic-secret", token_endpoint_auth_method="client_secret_basic")
    asyncio.run(flow.post(f"{provider.base}/token", {"grant_type": "none"}))
    hidden(said, "a-basic-secret")


def test_what_is_still_used_is_not_forgotten_for_what_was_replaced(
    said: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_MAX_HIDDEN", 10)
    logs._hidden.clear()
    for number in range(100):
        logs.hide("a-key-in-use")
        TokenRecord(f"access-{number}", f"refresh-{number}")
    hidden(said, "a-key-in-use", "access-99", "refresh-99", "access-97")
    assert "access-1 " in said("access-1 ")
    assert len(logs._hidden) == 10

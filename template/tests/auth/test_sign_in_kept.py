"""What `login` and `logout` leave in the store: under the lock, with the addresses where tokens may go; and at once."""

from __future__ import annotations

import time
import urllib.request
from pathlib import Path

import pytest
from pkg import answers

from .fake_provider import FakeProvider
from .package import TokenRecord, key_of, signin
from .support import flow_for, sign_in, store_at, stored
from .test_commands import Cli, read_url


def test_login_waits_for_the_lock_and_records_where_tokens_may_go(provider: FakeProvider, tmp_path: Path) -> None:
    provider.metadata = {"userinfo_endpoint": f"{provider.base}/userinfo"}
    process = Cli(provider, tmp_path).start("login", "--no-browser")
    try:
        url, _ = read_url(process)
        store, key = store_at(tmp_path / "data"), key_of(flow_for(provider))
        with store.lock(key):  # as a renewal holds it, which must not write over the new sign-in
            urllib.request.urlopen(url).close()
            end = time.monotonic() + 20
            while not provider.access and time.monotonic() < end:
                time.sleep(0.02)
            time.sleep(0.3)
            assert process.poll() is None
            assert store.load(key) is None
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.communicate(timeout=10)
    kept = stored(provider, tmp_path / "data")
    assert (kept.token_url, kept.revocation_url) == (f"{provider.base}/token", f"{provider.base}/revoke")
    assert kept.userinfo_url == f"{provider.base}/userinfo"
    assert (kept.account, kept.state, kept.renewed, kept.attempt) == ("ada", "ok", False, None)
    assert kept.access_token in provider.access
    assert abs(kept.obtained_at - time.time()) < 60
    assert kept.expires_at is not None
    assert 3500 < kept.expires_at - time.time() <= 3600


def test_logout_waits_for_the_lock(provider: FakeProvider, tmp_path: Path) -> None:
    old = sign_in(provider, tmp_path / "data", left=3600)
    store, key = store_at(tmp_path / "data"), key_of(flow_for(provider))
    with store.lock(key):
        process = Cli(provider, tmp_path).start("logout")
        time.sleep(0.8)
        assert process.poll() is None
        assert (provider.revoked, store.load(key)) == ([], old)
    process.communicate(timeout=20)
    assert (process.returncode, provider.revoked, store.load(key)) == (0, [old.refresh_token], None)


def test_the_manager_of_this_program_keeps_what_it_was_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Given tokens are the sign-in and go nowhere near the disk; otherwise it is the one that is stored."""
    monkeypatch.setenv("OAUTH_CLIENT_ID", "client-1")
    monkeypatch.setenv("MCP_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setitem(vars(signin), "OAUTH_PROVIDER", "azure")
    monkeypatch.setitem(vars(signin), "OAUTH_OPTIONS", {"tenant_id": "t"})
    for access, refresh in (("at-given-one", None), (None, "rt-given-one"), ("at-given-two", "rt-given-two")):
        monkeypatch.setenv("ACCESS_TOKEN", access or "")
        monkeypatch.setenv("REFRESH_TOKEN", refresh or "")
        signin.manager.cache_clear()
        manager = signin.manager()
        assert signin.manager() is manager
        assert "memory only" in manager.status()["stored_in"]
        assert manager._store.load(manager._key) == TokenRecord(
            access or "", refresh, None if access else 0.0, scopes=tuple(manager._flow.config.scopes)
        )
    monkeypatch.delenv("ACCESS_TOKEN")
    monkeypatch.delenv("REFRESH_TOKEN")
    signin.manager.cache_clear()
    stored_in = signin.manager().status()["stored_in"]
    assert str(tmp_path / "data" / "sign-in") in stored_in
    assert "PLAIN" not in stored_in
    status = signin.sign_in_status()
    assert (status["configured"], status["signed_in"]) == (True, False)
    assert status["problems"] == [f"Not signed in. Run: {answers.COMMAND} login"]
    signin.manager.cache_clear()
    monkeypatch.delenv("OAUTH_CLIENT_ID")
    status = signin.sign_in_status()
    assert (status["configured"], status["signed_in"]) == (False, False)
    assert "OAUTH_CLIENT_ID" in status["problems"][0]
    signin.manager.cache_clear()
    assert not (tmp_path / "data").exists()

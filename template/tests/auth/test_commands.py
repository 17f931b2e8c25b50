"""`login`, `status`, `logout` as a person runs them, against each kind of provider; A14, A15: no leak."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from .fake_provider import FakeProvider, running
from .package import OAuth2Config, health, signin
from .support import TOKEN_KEY

TESTS = Path(__file__).parent.parent
PACKAGE = OAuth2Config.__module__.split(".")[0]
PATHS = os.pathsep.join([str(TESTS.parent / "src"), str(TESTS)])
STYLES = ["rfc", "github", "google", "azure"]


class Cli:
    """One person's shell: an environment, a data directory, a provider."""

    def __init__(self, p: FakeProvider, tmp_path: Path, **env: str) -> None:
        scopes = ["openid", "email"] if p.style == "google" else ["read"]
        options: dict[str, Any] = {"scopes": scopes, "base_url": p.base}
        if p.style == "rfc":
            options = {"scopes": ["read"], "issuer": p.base, "name": "Fake"}
        self.data = tmp_path / "data"
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "PYTHONPATH": PATHS,
            "SIGN_IN_PROVIDER": "custom" if p.style == "rfc" else p.style,
            "SIGN_IN_OPTIONS": json.dumps(options),
            "MCP_DATA_DIR": str(self.data),
            "OAUTH_CLIENT_ID": p.client_id,
            "OAUTH_CLIENT_SECRET": p.client_secret or "",
            "TOKEN_KEY": TOKEN_KEY,
            "MCP_KEYRING": "off",
        } | env

    def start(self, *args: str, stdin: Any = subprocess.DEVNULL) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "auth.sign_in_cli", *args],
            env=self.env,
            stdin=stdin,
            preexec_fn=_interruptible,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *args: str) -> tuple[int, str, str]:
        process = self.start(*args)
        out, err = process.communicate(timeout=30)
        return process.returncode, out, err

    def login(self, *args: str, consent: bool = True) -> tuple[int, str, str]:
        """Run `login` and be the browser: open the address, follow the redirect."""
        process = self.start("login", "--no-browser", *args)
        url, seen = read_url(process)
        if consent and url:
            with urllib.request.urlopen(url) as page:
                assert page.status == 200
                assert b"Go back to the terminal" in page.read()
        out, err = process.communicate(timeout=30)
        return process.returncode, out, seen + err


def _interruptible() -> None:
    """Ctrl-C counts even where the tests run in the background, with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def read_url(process: subprocess.Popen[str]) -> tuple[str, str]:
    assert process.stderr
    seen = ""
    for line in process.stderr:
        seen += line
        if found := re.fullmatch(r"\s+(http\S+)\s*", line):
            return found[1], seen
    return "", seen


@pytest.mark.parametrize("style", STYLES)
def test_sign_in_status_renew_sign_out(style: str, tmp_path: Path) -> None:
    secret = None if style == "azure" else "s3cret"
    with running(style=style, client_secret=secret, expires_in="3600") as p:
        if style == "rfc":
            p.rotate = True
        cli = Cli(p, tmp_path)
        if secret is None:
            del cli.env["OAUTH_CLIENT_SECRET"]
        code, out, err = cli.run("status")
        assert (code, "Run: demo login" in out) == (1, True)
        code, out, err = cli.login()
        assert (code, out) == (0, ""), err
        assert "Signed in to" in err
        assert "not granted" not in err
        code, out, err = cli.run("status")
        assert code == 0, err
        assert re.search(r"expires in: +3[56]\d\d seconds", out)
        assert "AES-256-GCM, key: TOKEN_KEY" in out
        if style in ("github", "google"):
            assert "ada" in out
        assert cli.run("token-works")[0] == 0
        stored = b"".join(f.read_bytes() for f in cli.data.rglob("*") if f.is_file())
        assert not [s for s in p.secret_values if s.encode() in stored]
        code, out, err = cli.run("logout")
        assert code == 0
        assert len(p.revoked) == (0 if style == "azure" else 1)
        assert cli.run("status")[0] == 1
        assert "Nobody was signed in" in cli.run("logout")[2]


@pytest.mark.parametrize("style", STYLES)
def test_device_sign_in(style: str, tmp_path: Path) -> None:
    secret = None if style == "azure" else "s3cret"
    with running(style=style, client_secret=secret, interval=1) as p:
        cli = Cli(p, tmp_path)
        if style in ("azure", "github"):
            del cli.env["OAUTH_CLIENT_SECRET"]
        code, out, err = cli.run("login", "--device")
        assert (code, out) == (0, ""), err
        assert "ABCD-EFGH" in err
        assert "only if you started this sign-in yourself" in err
        assert cli.run("status")[0] == 0


def test_paste_with_a_terminal_and_without(provider: FakeProvider, tmp_path: Path) -> None:
    cli = Cli(provider, tmp_path)
    code, out, err = cli.run("login", "--paste")
    assert (code, out) == (2, "")
    assert "terminal" in err
    ours, theirs = pty.openpty()
    process = cli.start("login", "--paste", stdin=theirs)
    url, _ = read_url(process)
    _, headers = provider.authorize(url.partition("?")[2])
    os.write(ours, headers["Location"].encode() + b"\n")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, ""), err
    assert cli.run("status")[0] == 0


def test_no_key_stops_before_the_browser_and_names_three_ways(provider: FakeProvider, tmp_path: Path) -> None:
    cli = Cli(provider, tmp_path, TOKEN_KEY="")
    code, out, err = cli.run("login")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert all(way in err for way in ("TOKEN_KEY", "memory only", "--insecure-plaintext-storage"))
    assert provider.requests == []
    code, _, err = cli.login("--insecure-plaintext-storage")
    assert (code, "PLAIN TEXT" in err) == (0, True)
    code, out, _ = cli.run("status")
    assert (code, "PLAIN TEXT" in out) == (0, True)
    assert cli.run("token-works")[0] == 0
    cli.env["TOKEN_KEY"] = TOKEN_KEY  # with a key, a plain-text file is not believed
    assert "not encrypted although a key is set" in cli.run("token-works")[2]


def test_given_tokens_are_the_sign_in(provider: FakeProvider, tmp_path: Path) -> None:
    cli = Cli(provider, tmp_path, ACCESS_TOKEN="at-given")
    code, out, _ = cli.run("status")
    assert (code, "memory only" in out) == (0, True)
    assert cli.run("login")[0] == 2
    assert not cli.data.exists()


def test_ctrl_c_leaves_nothing_behind(provider: FakeProvider, tmp_path: Path) -> None:
    cli = Cli(provider, tmp_path)
    process = cli.start("login", "--no-browser")
    read_url(process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err.strip()) == (130, "", "Sign-in cancelled.")
    assert [f.suffix for f in cli.data.rglob("*") if f.is_file()] == [".lock"]


def test_missing_settings_exit_with_2(provider: FakeProvider, tmp_path: Path) -> None:
    code, out, err = Cli(provider, tmp_path, OAUTH_CLIENT_ID="").run("login")
    assert (code, out) == (2, "")
    assert err == "demo: Missing required auth: OAUTH_CLIENT_ID. Set OAUTH_CLIENT_ID environment variable.\n"
    provider.style = "github"
    code, _, err = Cli(provider, tmp_path, OAUTH_CLIENT_SECRET="").run("login")
    assert (code, "OAUTH_CLIENT_SECRET" in err, "--device" in err) == (2, True, True)


def test_timeout_and_logout_of_a_dead_provider(provider: FakeProvider, tmp_path: Path) -> None:
    cli = Cli(provider, tmp_path)
    code, _, err = cli.login("--timeout", "0.2", consent=False)
    assert (code, "--device or --paste" in err) == (1, True)
    assert cli.login()[0] == 0
    provider.faults = [(503, {}, b"")] * 5
    code, _, err = cli.run("logout")
    assert (code, "http_503" in err) == (0, True)
    assert cli.run("status")[0] == 1


def test_a14_a15_nothing_secret_in_any_output(provider: FakeProvider, tmp_path: Path) -> None:
    """Success and failures at DEBUG with tracebacks: no token, code, verifier, state or secret shows."""
    cli = Cli(provider, tmp_path, SIGN_IN_DEBUG="1", OAUTH_CLIENT_SECRET="s3cret")
    shown: list[str] = []
    bad = [
        (
            400,
            {"Content-Type": "application/json"},
            b'{"error":"invalid_grant","error_description":"SENTINEL"}',
        ),
        (200, {"Content-Type": "application/json"}, b'{"access_token":"SENTINEL\\n"}'),
        (500, {}, b"SENTINEL"),
        (302, {"Location": "http://127.0.0.1:1/"}, b""),
    ]
    states: list[str] = []

    def login() -> int:
        process = cli.start("login", "--no-browser")
        url, seen = read_url(process)
        states.append(re.search(r"state=([\w-]+)", url)[1])  # type: ignore[index]
        urllib.request.urlopen(url).close()
        out, err = process.communicate(timeout=30)
        assert out == ""
        shown.append(seen.replace(url, "") + err)
        return process.returncode

    for fault in bad:
        provider.faults = [fault]
        assert login() == 1
    assert login() == 0
    provider.access.clear()
    for args in (("status",), ("token-works",), ("logout",)):
        shown.append("".join(map(str, cli.run(*args))))
    everything = "\n".join(shown)
    verifiers = [post["code_verifier"] for post in provider.posts if "code_verifier" in post]
    assert len(verifiers) == 5
    for secret in ["SENTINEL", "s3cret", TOKEN_KEY, *provider.secret_values, *verifiers, *states]:
        assert secret not in everything


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        (["--host", "0.0.0.0"], {}),
        (["--host", "0.0.0.0"], {"MCP_SHARED_SIGN_IN": "off"}),
        ([], {"MCP_ALLOWED_HOSTS": "mcp.example.com", "MCP_SHARED_SIGN_IN": "no"}),
        ([], {"MCP_ALLOWED_ORIGINS": "https://app.example.com"}),
    ],
)
def test_other_machines_are_not_served_with_one_sign_in_by_accident(
    provider: FakeProvider, tmp_path: Path, arguments: list[str], env: dict[str, str]
) -> None:
    cli = Cli(provider, tmp_path, MCP_BEARER_TOKENS="a-token-of-some-length", **env)
    code, _, err = cli.run("serve", "--http", "--port", "0", *arguments)
    assert (code, "set MCP_SHARED_SIGN_IN=on" in err, len(err.splitlines())) == (2, True, 1)


@pytest.mark.parametrize("closed", [os.W_OK, os.X_OK, 0])
def test_health_says_that_nobody_is_signed_in_and_whether_somebody_can(
    closed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MCP_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("OAUTH_CLIENT_ID", "client-1")
    monkeypatch.setenv("TOKEN_KEY", TOKEN_KEY)
    # Patched, since root may write everywhere.
    monkeypatch.setattr(os, "access", lambda _, mode: not mode & closed)
    signin.manager.cache_clear()
    try:
        told = health._health()
        reasons = health._reasons()
        health.log_problems()
    finally:
        signin.manager.cache_clear()
    assert reasons[-1] == ("sign-in: unreadable" if closed else "sign-in: missing")
    said = [record.message for record in caplog.records if record.message.startswith("Not ready: ")]
    assert len(said) == len(set(said))
    assert (f"MCP_DATA_DIR={tmp_path} cannot be written by" in said[-1]) is bool(closed)
    assert ("Not signed in. Run: " in said[-1]) is not bool(closed)
    assert told["sign_in"]["signed_in"] is told["ready"] is False
    assert told["problems"][-1].startswith("Not signed in. Run: ")


def test_a_relative_data_directory_is_refused(provider: FakeProvider, tmp_path: Path) -> None:
    code, _, err = Cli(provider, tmp_path, MCP_DATA_DIR="data").run("login")
    assert (code, "MCP_DATA_DIR=data (environment) is not a whole path" in err) == (2, True)


def test_a15_starting_loads_nothing_heavy() -> None:
    code = (
        f"import sys; from {PACKAGE} import cli; cli._parser();"
        f"from {PACKAGE}.signin import manager; manager();"
        "print([m for m in ('httpx', 'httpcore', 'keyring', 'cryptography', 'filelock', 'mcp') if m in sys.modules])"
    )
    env = {**os.environ, "PYTHONPATH": PATHS, "MCP_KEYRING": "off", "OAUTH_CLIENT_ID": "client-1"}
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_a17_a_busy_fixed_port_is_fatal(provider: FakeProvider, tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as squatter:
        port = str(squatter.getsockname()[1])
        code, _, err = Cli(provider, tmp_path).run("login", "--port", port)
    assert (code, port in err) == (2, True)


def test_a3_hundred_bad_hits_do_not_end_a_sign_in(provider: FakeProvider, tmp_path: Path) -> None:
    cli = Cli(provider, tmp_path)
    process = cli.start("login", "--no-browser")
    url, _ = read_url(process)
    port = re.search(r"127\.0\.0\.1%3A(\d+)", url)[1]  # type: ignore[index]

    def hit(query: str) -> None:
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/callback?{query}")

    threads = [threading.Thread(target=hit, args=(f"error=access_denied&state=x{n}",)) for n in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert process.poll() is None
    urllib.request.urlopen(url).close()
    assert process.wait(30) == 0
    process.communicate()
    time.sleep(0)

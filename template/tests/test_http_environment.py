"""Proxies and certificates named in the environment: what cannot work is one line that names the variable."""

from __future__ import annotations

import os
from pathlib import Path

import certifi
import pytest
from conftest import VALUES
from fake_api import FakeApi
from pkg import client, errors, http_environment, settings, sources

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir")


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower() in VARIABLES:
            monkeypatch.delenv(name)


def said(monkeypatch: pytest.MonkeyPatch, **env: str) -> str:
    """What is said of this environment, which has to be one line without a value in it."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(errors.UsageError) as raised:
        http_environment.check_http_environment()
    line = str(raised.value)
    assert "\n" not in line
    assert not [value for value in env.values() if value and value in line.replace("http://host:port", "")]
    return line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:1080"),
        ("all_proxy", "socks5h://user:sentinel@127.0.0.1:1080"),
        ("HTTPS_PROXY", "socks4://127.0.0.1:1080"),
        ("HTTP_PROXY", "::::"),
        ("http_proxy", "http://"),
        ("HTTP_PROXY", "http://:8080"),
        ("https_proxy", "ftp://proxy.example"),
        ("HTTPS_PROXY", "http://proxy.example:http"),
        ("HTTPS_PROXY", "http://proxy.example:99999"),
        ("ALL_PROXY", "http://proxy.example:0"),
        ("ALL_PROXY", "our proxy"),
        ("all_proxy", "http://pröxy..example"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    assert said(monkeypatch, **{name: value}).startswith(f"{name} is not the address of a proxy")


@pytest.mark.parametrize(
    ("name", "value"), [("NO_PROXY", "localhost,[::1]"), ("no_proxy", "fd00::/8"), ("NO_PROXY", "example.com:*")]
)
def test_a_list_of_exceptions_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    assert said(monkeypatch, **{name: value}).startswith(f"{name} lists something that is not a host")


def test_the_spelling_that_counts_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    both = {"ALL_PROXY": "http://proxy.example", "all_proxy": "socks5://127.0.0.1"}
    assert said(monkeypatch, **both).startswith("all_proxy ")
    monkeypatch.delenv("ALL_PROXY")
    monkeypatch.setenv("ALL_PROXY", "http://proxy.example")  # now the last in the environment
    assert said(monkeypatch).startswith("all_proxy ")
    monkeypatch.setenv("all_proxy", "")
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1")
    http_environment.check_http_environment()  # an empty one in lower case unsets the other


@pytest.mark.parametrize("kind", ["absent", "folder", "relative", "empty", "words", "pipe"])
def test_a_file_of_certificates_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "ca.pem"
    match kind:
        case "folder":
            path.mkdir()
        case "relative":
            path.write_bytes(Path(certifi.where()).read_bytes())
            monkeypatch.chdir(tmp_path)
            path = Path("ca.pem")
        case "empty":
            path.touch()
        case "words":
            path.write_text("no certificate, not one\n")
        case "pipe":
            if not hasattr(os, "mkfifo"):
                pytest.skip("no named pipes here")
            os.mkfifo(path)
    assert "SSL_CERT_FILE" in said(monkeypatch, SSL_CERT_FILE=str(path))


@pytest.mark.parametrize("kind", ["absent", "file", "relative"])
def test_a_folder_of_certificates_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "certs"
    match kind:
        case "file":
            path.touch()
        case "misnamed":
            path.mkdir()
            (path / "0a1b2c3d.0.bak").touch()
        case "relative":
            path.mkdir()
            monkeypatch.chdir(tmp_path)
            path = Path("certs")
    assert "SSL_CERT_DIR" in said(monkeypatch, SSL_CERT_DIR=str(path))


def test_a_key_log_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "SSLKEYLOGFILE" in said(monkeypatch, SSLKEYLOGFILE=str(tmp_path / "absent" / "keys.log"))


def test_what_works_is_let_through(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    good = {
        "HTTP_PROXY": "proxy.example:3128",
        "https_proxy": "http://user:p%40ss@proxy.example:3128",
        "ALL_PROXY": "https://[::1]:3128",
        "NO_PROXY": "localhost,127.0.0.1,::1, .example.com,*.example.org,10.0.0.0/8",
        "SSL_CERT_FILE": certifi.where(),
        "SSLKEYLOGFILE": str(tmp_path / "keys.log"),
    }
    for name, value in good.items():
        monkeypatch.setenv(name, value)
    http_environment.check_http_environment()
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setenv("SSL_CERT_DIR", os.pathsep.join(["/nonexistent", str(tmp_path)]))
    http_environment.check_http_environment()


def test_what_is_not_used_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    monkeypatch.setenv("NO_PROXY", "[::1], *")  # httpx reads no other entry beside this one
    monkeypatch.setenv("SSL_CERT_FILE", certifi.where())
    monkeypatch.setenv("SSL_CERT_DIR", "/nonexistent")  # looked at only without a file
    http_environment.check_http_environment()


@pytest.mark.parametrize(
    ("url", "env", "proxy"),
    [
        ("https://api.example.com/v1", {}, None),
        ("https://api.example.com/v1", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("https://api.example.com/v1", {"HTTPS_PROXY": "p:1", "ALL_PROXY": "http://q:1"}, "http://p:1"),
        ("https://api.example.com/v1", {"HTTP_PROXY": "http://p:1"}, None),
        ("https://api.example.com/v1", {"all_proxy": "http://p:1"}, "http://p:1"),
        ("http://127.0.0.1:1/v1", {"http_proxy": "http://p:1"}, "http://p:1"),
        ("https://api.example.com/v1", {"ALL_PROXY": "http://p:1", "NO_PROXY": "example.com"}, None),
        ("https://api.example.com/v1", {"ALL_PROXY": "http://p:1", "NO_PROXY": "localhost, .example.com"}, None),
        ("https://api.example.com/v1", {"ALL_PROXY": "http://p:1", "no_proxy": "*"}, None),
        ("https://api.example.com/v1", {"ALL_PROXY": "http://p:1", "no_proxy": "other.example.com"}, "http://p:1"),
        ("https://api.example.com:8443/v1", {"ALL_PROXY": "http://p:1", "NO_PROXY": "api.example.com:8443"}, None),
        ("http://[::1]:80/v1", {"ALL_PROXY": "http://p:1", "NO_PROXY": "::1"}, None),
    ],
)
def test_the_proxy_of_an_address(
    monkeypatch: pytest.MonkeyPatch, url: str, env: dict[str, str], proxy: str | None
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert http_environment.proxy_for(url) == proxy


@pytest.mark.anyio
async def test_requests_go_through_the_proxy_that_is_named(monkeypatch: pytest.MonkeyPatch, fake_api: FakeApi) -> None:
    for name, value in VALUES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HTTP_PROXY", fake_api.url.removesuffix("/v1"))
    environ = {"API_BASE_URL": "http://127.0.0.1:9/v1", "MCP_SECRETS_DIR": "/nonexistent"}
    api = client.ApiClient(settings.Settings.load(sources.Sources(environ)))
    await api.get_json("/items/1")
    assert fake_api.requests[-1][0].startswith("http://127.0.0.1:9/v1/items/1")
    await api.aclose()


@pytest.mark.anyio
async def test_a_tool_s_call_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "localhost,[::1]")
    environ = {"API_BASE_URL": "http://127.0.0.1:9/v1", "MCP_SECRETS_DIR": "/nonexistent"}
    api = client.ApiClient(settings.Settings.load(sources.Sources(environ)))
    with pytest.raises(errors.UsageError, match="NO_PROXY lists"):
        await api.get_json("/items/1")

"""Settings: what is taken, and what a wrong one is told."""

from __future__ import annotations

import pytest
from pkg import answers, credentials, errors, inbound, settings, sources


def load(**env: str) -> settings.Settings:
    return settings.Settings.load(sources.Sources({"MCP_SECRETS_DIR": "/nonexistent", **env}))


def test_defaults_are_closed() -> None:
    read = load()
    assert (read.host, read.port, read.log_level) == ("127.0.0.1", 8000, "INFO")
    assert (read.allowed_hosts, read.allowed_origins) == ((), ())
    assert (read.api_base_url, read.api_timeout, read.api_max_bytes) == (answers.API_BASE_URL, 30, 1_000_000)


def test_all_can_be_set() -> None:
    read = load(
        MCP_HOST="::1",
        MCP_PORT="0",
        MCP_ALLOWED_HOSTS="mcp.example.com, other:8443",
        MCP_ALLOWED_ORIGINS="https://app.example.com",
        MCP_LOG_LEVEL="debug",
        API_BASE_URL="http://127.0.0.1:1/x",
        API_TIMEOUT="1.5",
        API_MAX_BYTES="5000",
    )
    assert read == settings.Settings(
        "::1",
        0,
        ("mcp.example.com", "other:8443"),
        ("https://app.example.com",),
        "DEBUG",
        "http://127.0.0.1:1/x",
        1.5,
        5000,
    )


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("MCP_PORT", "sk-live", "a number from 0 to 65535"),
        ("MCP_PORT", "65536", "a number from 0 to 65535"),
        ("MCP_PORT", "008000", "a number from 0 to 65535"),
        ("MCP_PORT", "8000.", "a number from 0 to 65535"),
        ("MCP_PORT", "٨٠", "a number from 0 to 65535"),
        ("MCP_PORT", "-1", "a number from 0 to 65535"),
        ("MCP_ALLOWED_HOSTS", "https://mcp.example.com", "not a host name"),
        ("MCP_ALLOWED_HOSTS", "*", "not a host name"),
        ("MCP_ALLOWED_ORIGINS", "sk-live", "not an origin"),
        ("MCP_ALLOWED_ORIGINS", "https://app.example.com/", "not an origin"),
        ("MCP_ALLOWED_ORIGINS", "ftp://app.example.com", "not an origin"),
        ("MCP_ALLOWED_ORIGINS", "chrome-extension://abcdef", "not an origin"),
        ("MCP_LOG_LEVEL", "loud", "one of DEBUG"),
        ("API_BASE_URL", "http://api.example.com", "would send credentials unencrypted"),
        ("API_BASE_URL", "HTTP://api.example.com", "would send credentials unencrypted"),
        ("API_BASE_URL", "ftp://x", "write https://host/path"),
        ("API_BASE_URL", "https://user:pw@x", "without user"),
        ("API_BASE_URL", "https://:pw@x", "without user"),
        ("API_BASE_URL", "https://@x", "without user"),
        ("API_BASE_URL", "https://x?key=sk-live", "without user, query"),
        ("API_BASE_URL", "https://x/?", "without user, query"),
        ("API_BASE_URL", "https://x/#sk-live", "query and fragment"),
        ("API_BASE_URL", "https://[sk-live", "write https://host/path"),
        ("API_BASE_URL", "https://x:sk-live", "write https://host/path"),
        ("API_BASE_URL", "https://x:0", "write https://host/path"),
        ("API_BASE_URL", "https://x:65536", "write https://host/path"),
        ("API_BASE_URL", "https://x\\sk-live", "write https://host/path"),
        ("API_BASE_URL", "https://x y", "write https://host/path"),
        ("API_BASE_URL", "https://x/\x07", "write https://host/path"),
        ("API_BASE_URL", "https:///path", "write https://host/path"),
        ("API_BASE_URL", "http://localhost.example.com", "would send credentials unencrypted"),
        ("API_TIMEOUT", "0.09", "from 0.1 to 3600"),
        ("API_TIMEOUT", "3600.1", "from 0.1 to 3600"),
        ("API_TIMEOUT", "nan", "from 0.1 to 3600"),
        ("API_TIMEOUT", "inf", "from 0.1 to 3600"),
        ("API_TIMEOUT", "sk-live", "from 0.1 to 3600"),
        ("API_MAX_BYTES", "0999", "from 1000 to 1000000000"),
        ("API_MAX_BYTES", "999", "from 1000 to 1000000000"),
        ("API_MAX_BYTES", "1000000001", "from 1000 to 1000000000"),
        ("API_MAX_BYTES", "1e6", "from 1000 to 1000000000"),
        ("API_MAX_BYTES", "5000 MB", "from 1000 to 1000000000"),
        ("API_MAX_BYTES", "٥٠٠٠", "from 1000 to 1000000000"),
    ],
)
def test_a_wrong_setting_names_itself_its_source_and_the_rule(name: str, value: str, rule: str) -> None:
    with pytest.raises(errors.UsageError) as raised:
        load(**{name: value})
    assert str(raised.value).startswith(f"{name} (environment) ")
    assert value not in str(raised.value)
    assert rule in str(raised.value)
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("MCP_PORT", "65535", 65535),
        ("MCP_PORT", " 1 ", 1),
        ("API_TIMEOUT", "0.1", 0.1),
        ("API_TIMEOUT", "3600", 3600.0),
        ("API_MAX_BYTES", "1000", 1000),
        ("API_MAX_BYTES", "1000000000", 1_000_000_000),
        ("API_BASE_URL", "https://x:65535/a/@b", "https://x:65535/a/@b"),
        ("API_BASE_URL", "http://[::1]:1", "http://[::1]:1"),
        ("MCP_LOG_LEVEL", "critical", "CRITICAL"),
        ("MCP_ALLOWED_HOSTS", "[::1]:8443,a", ("[::1]:8443", "a")),
    ],
)
def test_a_setting_at_its_bound_is_taken(name: str, value: str, read: object) -> None:
    field = name.removeprefix("MCP_").lower()
    assert getattr(load(**{name: value}), field) == read


def test_another_address_to_bind_replaces_only_what_is_given() -> None:
    read = load(MCP_HOST="::1", MCP_PORT="7", MCP_LOG_LEVEL="ERROR")
    assert read.with_bind(None, None) == read
    changed = read.with_bind("localhost", 0)
    assert (changed.host, changed.port, changed.log_level) == ("localhost", 0, "ERROR")
    assert (read.with_bind(None, 8).host, read.with_bind("", None).host) == ("::1", "")


OPEN = [
    {"MCP_HOST": "0.0.0.0"},
    {"MCP_HOST": "::"},
    {"MCP_HOST": "192.0.2.1"},
    {"MCP_HOST": "example.com"},
    {"MCP_HOST": "127.0.0.1.example.com"},
    {"MCP_HOST": "localhost."},
    {"MCP_HOST": "foo.localhost"},  # a resolver may find that anywhere
    {"MCP_ALLOWED_HOSTS": "mcp.example.com"},
    {"MCP_ALLOWED_HOSTS": "mcp.example.com:8443"},
    {"MCP_ALLOWED_HOSTS": "localhost, 127.0.0.1 mcp"},
    {"MCP_ALLOWED_HOSTS": "localhost.evil.example"},
    {"MCP_ALLOWED_HOSTS": "foo.localhost"},
    {"MCP_ALLOWED_HOSTS": "192.168.1.5"},
    {"MCP_ALLOWED_HOSTS": "[2001:db8::1]:8000"},
    {"MCP_ALLOWED_ORIGINS": "https://app.example.com"},
    {"MCP_ALLOWED_ORIGINS": "http://localhost:3000,http://app.example.com:3000"},
    {"MCP_ALLOWED_ORIGINS": "https://localhost.evil.example"},
]
CLOSED = [
    {},
    {"MCP_HOST": "127.0.0.2"},
    {"MCP_HOST": "::1"},
    {"MCP_HOST": "localhost"},
    {"MCP_HOST": "LOCALHOST"},
    {"MCP_ALLOWED_HOSTS": "localhost:3000 LOCALHOST 127.0.0.2:1 [::1] [::1]:8000"},
    {"MCP_ALLOWED_ORIGINS": "http://localhost:3000 https://LocalHost http://127.0.0.2 http://[::1]:8000"},
]


@pytest.mark.parametrize("env", OPEN)
def test_to_be_open_without_authentication_is_refused(env: dict[str, str]) -> None:
    taking_back = "bind 127.0.0.1" if "MCP_HOST" in env else f"keep to localhost in {next(iter(env))}"
    with pytest.raises(errors.UsageError, match=f"Set MCP_BEARER_TOKENS, or {taking_back}.$"):
        inbound.check_bind(load(**env), ())
    inbound.check_bind(load(**env), ("a-token-that-is-long-enough",))


@pytest.mark.parametrize("env", CLOSED)
def test_loopback_needs_no_token(env: dict[str, str]) -> None:
    inbound.check_bind(load(**env), ())


def test_an_address_that_is_given_empty_is_not_loopback() -> None:
    with pytest.raises(errors.UsageError, match="Set MCP_BEARER_TOKENS, or bind 127"):
        inbound.check_bind(load().with_bind("", None), ())


def test_names_are_taken_as_browsers_write_them() -> None:
    read = load(
        MCP_ALLOWED_HOSTS="MCP.Example.com",
        MCP_ALLOWED_ORIGINS="https://App.Example.com:443 http://app.example.com:80 http://a:443 https://b:80",
    )
    assert read.allowed_hosts == ("mcp.example.com",)
    assert read.allowed_origins == ("https://app.example.com", "http://app.example.com", "http://a:443", "https://b:80")


@pytest.mark.parametrize("bad", ["short", "fifteen-letters", "with blank in the middle", "nön-ascii-token-long"])
def test_a_weak_token_is_refused(bad: str) -> None:
    with pytest.raises(errors.UsageError, match="token 2: at least 16") as raised:
        credentials.bearer_tokens(sources.Sources({"MCP_BEARER_TOKENS": f"0123456789abcdef\n{bad}"}))
    assert bad not in str(raised.value)

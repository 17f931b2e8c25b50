"""The server's settings, read once at start-up. The table in README.md lists them for people."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import TypeVar
from urllib.parse import urlsplit

from .answers import API_BASE_URL
from .errors import UsageError
from .sources import Sources

T = TypeVar("T")

_HOST = r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(:[0-9]+)?"

# Decoded, JSON takes up to 30 times its bytes: with ten such answers at once the server stays within its container's 512 MB.
DEFAULT_MAX_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Settings:
    """Typed settings. `load` says which name sets which."""

    host: str
    port: int
    """0 takes a free port; the log says which."""
    allowed_hosts: tuple[str, ...]
    """Host names, with or without a port, that HTTP clients may use besides those of this machine."""
    allowed_origins: tuple[str, ...]
    """Origins of web pages that may call the server from a browser."""
    log_level: str
    api_base_url: str
    api_timeout: float
    """Seconds for a whole request to the API."""
    api_max_bytes: int = DEFAULT_MAX_BYTES
    """Bytes of an answer of the API, decompressed."""

    @classmethod
    def load(cls, sources: Sources) -> Settings:
        """Read every setting.

        Raises:
            UsageError: one of them has a value that cannot work; names it, where it was found, and the rule.
        """

        def read(name: str, parse: Callable[[str], T], default: T) -> T:
            found = sources.setting(name)
            if found is None:
                return default
            try:
                return parse(found.value.strip())
            except ValueError as error:
                raise UsageError(f"{name} ({found.source}) {error}") from None

        return cls(
            host=read("MCP_HOST", str, "127.0.0.1"),
            port=read("MCP_PORT", port_number, 8000),
            allowed_hosts=read("MCP_ALLOWED_HOSTS", _hosts, ()),
            allowed_origins=read("MCP_ALLOWED_ORIGINS", _origins, ()),
            log_level=read("MCP_LOG_LEVEL", _log_level, "INFO"),
            api_base_url=read("API_BASE_URL", _base_url, API_BASE_URL),
            api_timeout=read("API_TIMEOUT", _seconds, 30.0),
            api_max_bytes=read("API_MAX_BYTES", _bytes, DEFAULT_MAX_BYTES),
        )

    def with_bind(self, host: str | None, port: int | None) -> Settings:
        """These settings with another address to bind, where one is given."""
        return replace(
            self,
            host=self.host if host is None else host,
            port=self.port if port is None else port,
        )

    def opened_by(self) -> tuple[str, str] | None:
        """What lets others than this machine reach the server, and what takes that back; None where nothing does.

        Names count as the address does: they say that a proxy or a tunnel stands in front of it.
        """
        if not is_loopback(self.host):
            return "Binding more than loopback", "bind 127.0.0.1"
        lists = {"MCP_ALLOWED_HOSTS": self.allowed_hosts, "MCP_ALLOWED_ORIGINS": self.allowed_origins}
        for setting, names in lists.items():
            if not all(is_loopback(_without_port(name)) for name in names):
                return f"{setting} with a name of another machine", f"keep to localhost in {setting}"
        return None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`. `foo.localhost` does not count: not every resolver keeps it here."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _without_port(name: str) -> str:
    """The host of a host name or an origin, either of them with or without a port."""
    return re.sub(r":[0-9]+$", "", name.rpartition("//")[2]).strip("[]")


def port_number(text: str) -> int:
    """A TCP port, 0 included.

    Raises:
        ValueError: it is none.
    """
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
        raise ValueError("is not a port: a number from 0 to 65535.")
    return int(text)


def _hosts(text: str) -> tuple[str, ...]:
    return _listed(text, _HOST, "a host name: write mcp.example.com or mcp.example.com:8443.")


def _origins(text: str) -> tuple[str, ...]:
    origins = _listed(text, f"https?://{_HOST}", "an origin: write https://app.example.com, without a path.")
    # Browsers leave out the scheme's own port.
    return tuple(re.sub("^(https://.*):443$|^(http://.*):80$", r"\1\2", origin) for origin in origins)


def _listed(text: str, pattern: str, rule: str) -> tuple[str, ...]:
    names = tuple(re.split(r"[\s,]+", text.lower()))  # as clients send them
    if not all(re.fullmatch(pattern, name) for name in names):
        raise ValueError(f"lists something that is not {rule}")
    return names


def _log_level(text: str) -> str:
    levels = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
    if text.upper() not in levels:
        raise ValueError(f"is not a level: one of {', '.join(levels)}.")
    return text.upper()


def _base_url(text: str) -> str:
    rule = "is not an address: write https://host/path, without user, query and fragment."
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:  # its message quotes what was set
        raise ValueError(rule) from None
    known = parts.scheme in {"http", "https"} and parts.hostname and port != 0
    if not known or "@" in parts.netloc or not re.fullmatch(r"[^\s\\?#]+", text) or not text.isprintable():
        raise ValueError(rule)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError("would send credentials unencrypted: use https (http is for this machine only).")
    return text


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise ValueError("is not a time: seconds, from 0.1 to 3600.")
    return seconds


def _bytes(text: str) -> int:
    if not re.fullmatch(r"[0-9]{4,10}", text) or not 1000 <= int(text) <= 1_000_000_000:
        raise ValueError("is not a size: bytes, from 1000 to 1000000000.")
    return int(text)

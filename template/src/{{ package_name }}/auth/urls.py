"""Which URLs may be opened, called or trusted. Everything here is refused unless it is plainly fine."""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from urllib.parse import SplitResult, urlsplit

from .errors import ConfigError

_HOST = r"[A-Za-z0-9\-]{1,63}(?:\.[A-Za-z0-9\-]{1,63})*|\[[0-9A-Fa-f:.]+\]"
_URL = re.compile(rf"https?://(?:{_HOST})(?::[0-9]+)?(?:[/?][!#$%&'()*+,\-./0-9:;=?@A-Z_a-z~\[\]]*)?")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_UNICAST = ipaddress.ip_network("2000::/3")


def check_url(url: str, what: str, *, loopback: bool = True) -> SplitResult:
    """Return the parts of an endpoint URL: https, or http on a loopback address where `loopback` allows it.

    Stops CVE-2025-6514 and its kin: `javascript:`, `file:`, `--option`, quotes for a shell, control characters, and
    `https://good@evil`. Raises ConfigError, which does not repeat the URL.
    """
    if len(url) <= 8192 and _URL.fullmatch(url):
        with suppress(ValueError):
            parts = urlsplit(url)
            here = is_loopback(parts.hostname or "")
            if parts.port != 0 and (parts.scheme == "https" or here) and (loopback or not here):
                return parts
    raise ConfigError(f"The {what} is not a plain https URL; it was not used.", code="bad_url")


def is_loopback(host: str) -> bool:
    """Whether `host` is written as this machine: `localhost`, 127.0.0.0/8 or `::1`, bare. No name is looked up."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_public_address(text: str) -> bool:
    """Whether a resolved address is on the public internet.

    `ipaddress.is_global` alone says so of 64:ff9b::a9fe:a9fe (NAT64 of 169.254.169.254) and of 2002:7f00:1:: (6to4 of
    127.0.0.1): the IPv4 address inside the one is judged instead, the other is refused, as is Teredo.
    """
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            address = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        elif address not in _UNICAST or address.sixtofour:
            return False
    return address.is_global and not address.is_multicast

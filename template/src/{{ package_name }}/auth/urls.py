"""Which URLs may be opened, called or trusted. Everything here is refused unless it is plainly fine."""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from urllib.parse import SplitResult, urlsplit

from .errors import ConfigError

_URL = re.compile(r"https?://[A-Za-z0-9.\-:\[\]]+(?:[/?][!#$%&'()*+,\-./0-9:;=?@A-Z_a-z~\[\]]*)?")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NEVER_V6 = tuple(map(ipaddress.ip_network, ("64:ff9b:1::/48", "2001::/32", "::/96", "fec0::/10")))


def check_url(url: str, what: str, *, loopback: bool = True) -> SplitResult:
    """Return the parts of an endpoint URL: https, or http on a loopback address where `loopback` allows it.

    Stops CVE-2025-6514 and its kin: `javascript:`, `file:`, `--option`, quotes for a shell, control
    characters, and `https://good@evil`. Raises ConfigError, which does not repeat the URL.
    """
    if len(url) <= 8192 and _URL.fullmatch(url):
        with suppress(ValueError):
            parts = urlsplit(url)
            usable = bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
            here = is_loopback(parts.hostname or "")
            if usable and (parts.scheme == "https" or here) and (loopback or not here):
                return parts
    raise ConfigError(f"The {what} is not a plain https URL; it was not used.", code="bad_url")


def is_loopback(host: str) -> bool:
    """Whether `host` is written as this machine: `localhost`, 127.0.0.0/8 or `::1`. No name is looked up."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_public_address(text: str) -> bool:
    """Whether a resolved address is on the public internet, looking into IPv4 carried inside IPv6.

    `ipaddress.is_global` calls 64:ff9b::a9fe:a9fe (NAT64 of 169.254.169.254) and 2002:7f00:1:: (6to4 of
    127.0.0.1) global, so the address inside is judged instead.
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public_address(str(inner))
        if any(address in network for network in _NEVER_V6):
            return False
    return address.is_global and not address.is_multicast

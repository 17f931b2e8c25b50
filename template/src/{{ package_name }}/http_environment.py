"""What the environment says about proxies and certificates.

httpx reads these variables when a client is made, and fails there with a traceback that names none of them.
"""

from __future__ import annotations

import os
import re
import ssl
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from .errors import UsageError


def check_http_environment() -> None:
    """Stop before the first request if a variable that httpx reads cannot work. Reads the files that they name.

    Raises:
        UsageError: names the variable and what to do, never its value: a proxy's address may hold a password.
    """
    import httpx

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # an empty one: loading the usual certificates takes a while
    try:
        context.keylog_filename = os.environ.get("SSLKEYLOGFILE") or None  # type: ignore[assignment]
    except OSError:
        raise UsageError("The file that SSLKEYLOGFILE names cannot be written. Correct it, or unset it.") from None
    file = os.environ.get("SSL_CERT_FILE")
    folders = os.environ.get("SSL_CERT_DIR")
    if file and not _is_certificate_file(file, context):
        raise UsageError("SSL_CERT_FILE is not the whole path of a file with certificates. Correct it, or unset it.")
    if folders and not file and not any(_is_whole_folder(path) for path in folders.split(os.pathsep)):
        raise UsageError("SSL_CERT_DIR is not the whole path of a folder. Correct it, or unset it.")
    proxies = getproxies()
    if "*" in [host.strip() for host in proxies.get("no", "").split(",")]:
        return  # they all go unused
    for scheme in ("http", "https", "all"):
        address = proxies.get(scheme)
        if address and not _is_usable_proxy(address, context):
            raise UsageError(
                f"{_variable(f'{scheme}_proxy')} is not the address of a proxy that this server can use: "
                "write http://host:port, or unset it."
            )
    try:
        httpx.AsyncClient(verify=context)
    except (ValueError, httpx.InvalidURL):
        raise UsageError(
            f"{_variable('no_proxy')} lists something that is not a host. "
            "Write names and addresses with commas between them, IPv6 without brackets: localhost,127.0.0.1,::1"
        ) from None


def proxy_for(url: str) -> str | None:
    """The proxy that requests to `url` go through, if the environment names one."""
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or "") or proxy_bypass(parts.netloc):
        return None
    proxies = getproxies()
    address = proxies.get(parts.scheme) or proxies.get("all")
    return f"http://{address}" if address and "://" not in address else address


def _is_certificate_file(path: str, context: ssl.SSLContext) -> bool:
    if not os.path.isabs(path) or not os.path.isfile(path):  # a pipe would be waited for
        return False
    try:
        context.load_verify_locations(path)
    except OSError:
        return False
    return True


def _is_whole_folder(path: str) -> bool:
    return os.path.isabs(path) and os.path.isdir(path)


def _is_usable_proxy(address: str, context: ssl.SSLContext) -> bool:
    import httpx

    try:
        url = httpx.URL(address if "://" in address else f"http://{address}")
        httpx.AsyncHTTPTransport(verify=context, proxy=httpx.Proxy(url))
    except (ImportError, ValueError, httpx.InvalidURL):  # the first: SOCKS is an extra of httpx
        return False
    port = 80 if url.port is None else url.port
    return re.fullmatch(r"[A-Za-z0-9._:-]+", url.raw_host.decode()) is not None and 0 < port < 65536


def _variable(name: str) -> str:
    """The name as it is spelt in the environment; lower case wins there."""
    return name if os.environ.get(name) else name.upper()

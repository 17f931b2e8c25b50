"""What the environment says about HTTP for every library: proxies and certificates.

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
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # an empty one: loading the usual certificates takes a while
    _check_certificates(context)
    _check_key_log(context)
    _check_proxies(context)


def proxy_for(url: str) -> str | None:
    """The proxy that requests to `url` go through, if the environment names one."""
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or "") or proxy_bypass(parts.netloc):
        return None
    proxies = getproxies()
    address = proxies.get(parts.scheme) or proxies.get("all")
    return f"http://{address}" if address and "://" not in address else address


def _check_certificates(context: ssl.SSLContext) -> None:
    file = os.environ.get("SSL_CERT_FILE")
    folder = os.environ.get("SSL_CERT_DIR")
    if file:
        if not os.path.isabs(file) or not os.path.isfile(file):
            raise UsageError("SSL_CERT_FILE is not the whole path of a file. Correct it, or unset it.")
        try:
            context.load_verify_locations(file)
        except OSError as error:
            reason = "cannot be read" if isinstance(error, PermissionError) else "holds no certificate in PEM form"
            raise UsageError(f"The file that SSL_CERT_FILE names {reason}. Correct it, or unset it.") from None
    elif folder and not any(_holds_certificates(path) for path in folder.split(os.pathsep)):
        raise UsageError(
            "SSL_CERT_DIR is not the whole path of a folder with certificates, named as `openssl rehash` does. "
            "Correct it, or unset it."
        )


def _holds_certificates(path: str) -> bool:
    try:
        names = os.listdir(path) if os.path.isabs(path) else []
    except OSError:
        return False
    return any(re.fullmatch(r"[0-9a-f]{8}\.[0-9]+", name) for name in names)


def _check_key_log(context: ssl.SSLContext) -> None:
    file = os.environ.get("SSLKEYLOGFILE")
    if not file:
        return
    try:
        context.keylog_filename = file
    except OSError:
        raise UsageError("The file that SSLKEYLOGFILE names cannot be written. Correct it, or unset it.") from None


def _check_proxies(context: ssl.SSLContext) -> None:
    import httpx

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
    """The name as it is spelt in the environment; lower case wins there. Elsewhere the system's settings say it."""
    spellings = [spelling for spelling, value in os.environ.items() if value and spelling.lower() == name]
    if not spellings:
        return f"The system's proxy setting ({name})"
    return name if name in spellings else spellings[-1]

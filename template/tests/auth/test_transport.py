"""Where a request really goes: the address that was checked (A7), the certificate of the name, proxies."""

from __future__ import annotations

import asyncio
import datetime
import inspect
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from .fake_provider import FakeProvider
from .package import ConfigError, ProtocolError, TransientAuthError, transport

pytestmark = pytest.mark.anyio
NAME = "id.example"


class Listener:
    """Answers one request for each connection, and keeps the heads and, with TLS, the names that were asked for."""

    def __init__(self, status: str = "200 OK", more: bytes = b"") -> None:
        self.more = more  # headers
        self.heads: list[str] = []
        self.names: list[str | None] = []
        self.port = 0
        self._status = status

    @asynccontextmanager
    async def listening(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[Listener]:
        if tls:
            tls.sni_callback = lambda _socket, name, _context: self.names.append(name)
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls) as server:
            self.port = server.sockets[0].getsockname()[1]
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(f"HTTP/1.1 {self._status}\r\nContent-Length: 2\r\nConnection: close\r\n".encode())
        writer.write(self.more + b"\r\n{}")
        with suppress(OSError):
            await writer.drain()
        writer.close()


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Names and their addresses. A name is looked up once: with it goes its entry."""
    addresses: dict[str, list[str]] = {}

    def look_up(host: str, port: int, *args: Any, **more: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (it, port)) for it in addresses.pop(host)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return addresses


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's side, with a certificate for NAME that the client's side trusts."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
        .public_bytes(Encoding.PEM)
    )
    (tmp_path / "certificate.pem").write_bytes(certificate)
    both = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate
    (tmp_path / "both.pem").write_bytes(both)
    trusting = ssl.create_default_context(cafile=str(tmp_path / "certificate.pem"))
    monkeypatch.setattr(transport, "_tls", lambda: trusting)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    return context


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Listener:
    """What a company's proxy is sent; once it listens, `use_proxy` puts it into the environment."""
    for variable in [it for it in os.environ if it.lower().endswith("_proxy")]:
        monkeypatch.delenv(variable)
    return Listener("502 Bad Gateway")


def use_proxy(proxy: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.port}")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "localhost", "[::ffff:127.0.0.1]"])
async def test_a7_spelled_otherwise_is_refused_at_connect_time(host: str) -> None:
    with pytest.raises(ConfigError) as caught:
        await transport.send("GET", f"https://{host}:1/", {}, public_only=True)
    assert caught.value.code == "not_public"


async def test_a7_one_bad_address_among_good_ones_is_enough_to_refuse(resolver: dict[str, list[str]]) -> None:
    resolver["evil.example"] = ["8.8.8.8", "127.0.0.1"]
    with pytest.raises(ConfigError):
        await transport.send("GET", "https://evil.example/", {}, public_only=True)


@pytest.mark.parametrize("host", [NAME, "other.example"])
async def test_a7_the_address_is_pinned_and_the_certificate_is_the_names(
    host: str, resolver: dict[str, list[str]], tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is looked up once (DNS rebinding), and who answers there still has to prove that it is that name."""
    resolver[host] = ["127.0.0.1"]
    monkeypatch.setattr(transport, "is_public_address", lambda address: address == "127.0.0.1")
    async with Listener().listening(tls) as server:
        url = f"https://{host}:{server.port}/token?a=b"
        if host == NAME:
            assert (await transport.send("GET", url, {}, public_only=True)).status == 200
            assert server.heads[0].startswith("GET /token?a=b HTTP/1.1\r\n")
            assert f"\r\nHost: {NAME}:{server.port}\r\n" in server.heads[0]
        else:
            with pytest.raises(TransientAuthError) as caught:
                await transport.send("GET", url, {}, public_only=True)
            assert caught.value.code == "unreachable"
            assert server.heads == []
    assert server.names == [host]
    assert resolver == {}


@pytest.mark.parametrize(
    ("url", "address", "pinned"),
    [
        ("https://id.example/x?y=1", "8.8.8.8", "https://8.8.8.8:443/x?y=1"),
        ("https://id.example:8443/", "8.8.8.8", "https://8.8.8.8:8443/"),
        ("https://id.example/x", "2606:4700::1", "https://[2606:4700::1]:443/x"),
    ],
)
async def test_a7_the_address_stands_where_the_name_stood(
    url: str, address: str, pinned: str, resolver: dict[str, list[str]]
) -> None:
    resolver["id.example"] = [address, "9.9.9.9"]
    assert await transport._pinned(url) == pinned


@pytest.mark.parametrize(
    ("url", "line"),
    [("https://api.example/token", "CONNECT api.example:443"), ("http://api.example/x", "GET http://api.example/x")],
)
async def test_a_proxy_takes_what_goes_out_and_looks_its_name_up(
    url: str, line: str, proxy: Listener, resolver: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxy.listening():
        use_proxy(proxy, monkeypatch)
        if url.startswith("https"):
            with pytest.raises(TransientAuthError):
                await transport.send("GET", url, {"Authorization": "Bearer sentinel"})
            assert "sentinel" not in proxy.heads[0]
        else:
            assert (await transport.send("GET", url, {})).status == 502
    assert [head.splitlines()[0] for head in proxy.heads] == [f"{line} HTTP/1.1"]


async def test_no_proxy_hears_of_this_machine(
    provider: FakeProvider, proxy: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxy.listening():
        use_proxy(proxy, monkeypatch)
        for base in (provider.base, provider.base.replace("127.0.0.1", "localhost")):
            reply = await transport.send("GET", f"{base}/.well-known/openid-configuration", {})
            assert reply.status == 200
    assert proxy.heads == []


async def test_a7_no_proxy_steps_around_the_check_of_the_address(
    proxy: Listener, resolver: dict[str, list[str]], tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxy.listening(), Listener().listening(tls) as server:
        use_proxy(proxy, monkeypatch)
        resolver[NAME] = ["169.254.169.254"]
        with pytest.raises(ConfigError):
            await transport.send("GET", f"https://{NAME}:{server.port}/", {}, public_only=True)
        assert server.heads == []
        resolver[NAME] = ["127.0.0.1"]
        monkeypatch.setattr(transport, "is_public_address", lambda _: True)
        assert (await transport.send("GET", f"https://{NAME}:{server.port}/", {}, public_only=True)).status == 200
    assert proxy.heads == []
    assert len(server.heads) == 1


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HTTPS_PROXY", "socks5h://user:SENTINEL@127.0.0.1:1"),
        ("ALL_PROXY", "socks5://SENTINEL"),
        ("https_proxy", "ftp://SENTINEL"),
        ("HTTP_PROXY", "http://127.0.0.1:99999"),
        ("NO_PROXY", "localhost,[::1]"),
        ("SSL_CERT_FILE", "/SENTINEL/certificates.pem"),
        ("SSL_CERT_DIR", "/SENTINEL"),
    ],
)
@pytest.mark.parametrize("public_only", [True, False])
async def test_an_environment_that_cannot_work_is_named(
    provider: FakeProvider,
    proxy: Listener,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    public_only: bool,
) -> None:
    transport._tls.cache_clear()
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=variable) as caught:
        await transport.send("GET", f"{provider.base}/user", {}, public_only=public_only)
    assert "SENTINEL" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert provider.requests == []


async def test_what_each_request_says_of_itself() -> None:
    async with Listener().listening() as server:
        await transport.send("POST", f"http://127.0.0.1:{server.port}/t?a=b", {"X-One": "1"}, b"body")
    head = server.heads[0].lower().splitlines()
    assert head[0] == "post /t?a=b http/1.1"
    assert {"accept-encoding: identity", "connection: close", "x-one: 1", "content-length: 4"} <= set(head)
    assert not [line for line in head if line.startswith(("cookie", "authorization"))]


async def test_a21_the_bounds_are_what_they_are(provider: FakeProvider) -> None:
    defaults = inspect.signature(transport.send).parameters
    assert defaults["deadline"].default == 20
    assert defaults["public_only"].default is False
    provider.places = {"/x": (200, {}, b" " * 1024 * 1024), "/y": (200, {}, b" " * (1024 * 1024 + 1))}
    assert len((await transport.send("GET", f"{provider.base}/x", {})).body) == 1024 * 1024
    with pytest.raises(ProtocolError, match="1048576"):
        await transport.send("GET", f"{provider.base}/y", {})


async def test_a21_headers_are_bounded_too() -> None:
    async with Listener(more=b"".join(b"X-%d: %s\r\n" % (n, b"x" * 1000) for n in range(300))).listening() as server:
        with pytest.raises(TransientAuthError):
            await transport.send("GET", f"http://127.0.0.1:{server.port}/", {})
        server.more = b"X-Small: 1\r\nContent-Encoding: Identity\r\n"
        assert (await transport.send("GET", f"http://127.0.0.1:{server.port}/", {})).headers["x-small"] == "1"
        for coding in (b"gzip", b"br", b"deflate", b"x", b"identity, gzip"):
            server.more = b"Content-Encoding: " + coding + b"\r\n"
            with pytest.raises(ProtocolError) as caught:
                await transport.send("GET", f"http://127.0.0.1:{server.port}/", {})
            assert caught.value.code == "bad_encoding"


async def test_what_cannot_be_reached_may_be_tried_again(resolver: dict[str, list[str]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(TransientAuthError) as caught:
        await transport.send("GET", f"http://127.0.0.1:{port}/", {})
    assert (caught.value.code, caught.value.ambiguous) == ("unreachable", False)
    assert caught.value.__suppress_context__  # the frames below hold what was sent
    resolver["nobody.example"] = []
    with pytest.raises(ConfigError):
        await transport.send("GET", "https://nobody.example/", {}, public_only=True)

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(TransientAuthError) as caught:  # the request may have been heard
            await transport.send("POST", f"http://127.0.0.1:{port}/", {})
        assert (caught.value.code, caught.value.ambiguous) == ("no_answer", True)
        assert caught.value.__suppress_context__


@pytest.mark.parametrize("host", ["xn--a.example", "a..b"])
@pytest.mark.parametrize("public_only", [True, False])
async def test_a_name_that_cannot_be_one_is_refused(host: str, public_only: bool) -> None:
    with pytest.raises((ProtocolError, TransientAuthError)):
        await transport.send("GET", f"https://{host}/", {}, public_only=public_only)

"""A strict OAuth provider on loopback: what it accepts, a good one would; how it fails can be chosen.

Run as a program it prints its address and serves until stdin closes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlencode, urlsplit

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


@dataclass
class FakeProvider:
    """The state of one provider. `style`: rfc, github, google or azure. `faults` are served one by one."""

    style: str = "rfc"
    client_id: str = "client-1"
    client_secret: str | None = "s3cret"
    expires_in: Any = 3600
    rotate: bool = True
    send_iss: bool = True
    delay: float = 0.0
    late: float = 0.0  # seconds for which an answer is on its way: what it says holds already
    user_status: int = 0  # what the user endpoint answers to every token, instead of 200 or 401
    interval: int = 5  # seconds between the questions of a device
    consent: bool = False  # show a page to click on; otherwise consent is given at once
    client_auth: tuple[str, ...] = ("client_secret_post", "client_secret_basic")  # how a secret is accepted
    required: dict[str, str] = field(default_factory=dict)  # parameters without which it asks nobody for consent
    label: str | None = "application/json"  # of JSON; None leaves it away
    more: dict[str, Any] = field(default_factory=dict)  # fields of every token response
    places: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)  # other answers, by path
    base: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    faults: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    families: dict[str, set[str]] = field(default_factory=dict)  # family -> every refresh token of it
    live: dict[str, str] = field(default_factory=dict)  # live refresh token -> family
    access: dict[str, str] = field(default_factory=dict)  # live access token -> family
    devices: dict[str, list[str]] = field(default_factory=dict)  # device code -> answers still to give
    posts: list[dict[str, str]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    agents: list[str] = field(default_factory=list)  # the User-Agent of each request
    reuses: int = 0
    refreshes: int = 0
    revoked: list[str] = field(default_factory=list)
    secret_values: list[str] = field(default_factory=list)
    lock: Any = field(default_factory=threading.RLock)
    device_answers: list[str] = field(default_factory=list)

    @property
    def issuer(self) -> str:
        if self.style == "github":
            return f"{self.base}/login/oauth"
        return self.base

    def new(self, prefix: str) -> str:
        value = prefix + secrets.token_urlsafe(24)
        self.secret_values.append(value)
        return value

    def issue(self, family: str | None = None, scope: str = "") -> dict[str, Any]:
        family = family or secrets.token_hex(4)
        access = self.new("at-")
        self.access[access] = family
        body: dict[str, Any] = {"access_token": access, "token_type": "bearer", "scope": scope}
        if self.expires_in is not None:
            body["expires_in"] = self.expires_in
        body["refresh_token"] = refresh = self.new("rt-")
        self.families.setdefault(family, set()).add(refresh)
        self.live[refresh] = family
        body |= self.more
        if self.style == "google":
            body["scope"] = re.sub(r"\b(email|profile)\b", r"https://www.googleapis.com/auth/userinfo.\1", scope)
        if self.style == "github":
            body["scope"] = scope.replace(" ", ",")
            if self.expires_in is None:
                del body["refresh_token"]
        return body

    def document(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.base}/authorize",
            "token_endpoint": f"{self.base}/token",
            "device_authorization_endpoint": f"{self.base}/device/code",
            "revocation_endpoint": f"{self.base}/revoke",
            "code_challenge_methods_supported": ["plain", "S256"],
            "authorization_response_iss_parameter_supported": True,
        } | self.metadata

    def consent_page(self, query: str) -> bytes:
        links = (f'<a href="?{escape(query)}&amp;answer={answer}">{answer}</a>' for answer in ("Authorize", "Cancel"))
        head = '<!doctype html><title>Consent</title><link rel="icon" href="data:,">'
        return f"{head}<h1>May this program act as you?</h1>{' '.join(links)}".encode()

    def authorize(self, query: str) -> tuple[int, dict[str, str]]:
        """The answer to the consent: (302, the redirect) or (400, why)."""
        q = dict(parse_qsl(query))
        wrong = [
            len(q) != len(parse_qsl(query)),
            not self.required.items() <= q.items(),
            q.get("response_type") != "code",
            q.get("client_id") != self.client_id,
            q.get("code_challenge_method") != "S256",
            len(q.get("code_challenge", "")) != 43,
            len(q.get("state", "")) < 20,
            self.style == "google" and (q.get("access_type"), q.get("prompt")) != ("offline", "consent"),
            self.style == "azure" and ("offline_access" not in q.get("scope", "") or "resource" in q),
            urlsplit(q.get("redirect_uri", "")).hostname not in ("127.0.0.1", "localhost"),
            self.style == "azure" and urlsplit(q["redirect_uri"]).hostname != "localhost",
        ]
        if any(wrong):
            return 400, {"wrong": str(wrong)}
        back = {"error": "access_denied", "state": q["state"]}
        if q.get("answer") != "Cancel":
            code = self.new("code-")
            with self.lock:
                self.codes[code] = q
            back = {"code": code, "state": q["state"]}
        if self.send_iss and self.style != "azure":
            back["iss"] = self.issuer
        return 302, {"Location": f"{q['redirect_uri']}?{urlencode(back)}"}

    def authenticate(self, form: dict[str, str], authorization: str, needed: bool = True) -> bool:
        """Whether the client proves itself, by one way only (RFC 6749 section 2.3) and one that is accepted."""
        identity, secret = form.get("client_id"), form.get("client_secret")
        if authorization:
            if form.keys() & {"client_id", "client_secret"} or "client_secret_basic" not in self.client_auth:
                return False
            if not authorization.startswith("Basic "):
                return False
            pair = base64.b64decode(authorization.removeprefix("Basic ")).decode().split(":", 1)
            identity, secret = (unquote(part) for part in pair)
        elif secret is not None and "client_secret_post" not in self.client_auth:
            return False
        return identity == self.client_id and (secret == self.client_secret or (not needed and secret is None))

    def token(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        with self.lock:
            grant = form.get("grant_type")
            if not self.authenticate(form, authorization, grant != DEVICE_GRANT):
                return 401, {"error": "incorrect_client_credentials" if self.style == "github" else "invalid_client"}
            if grant == "authorization_code":
                asked = self.codes.pop(form.get("code", ""), None)  # single use
                digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
                challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
                if (
                    not asked
                    or asked["code_challenge"] != challenge
                    or asked["redirect_uri"] != form.get("redirect_uri")
                ):
                    return 400, {"error": "bad_verification_code" if self.style == "github" else "invalid_grant"}
                return 200, self.issue(scope=asked.get("scope", ""))
            if grant == "refresh_token":
                return self.refresh(form.get("refresh_token", ""))
            if grant == DEVICE_GRANT:
                answers = self.devices.get(form.get("device_code", ""))
                if answers is None:
                    return 400, {"error": "bad_verification_code"}
                if answers and answers[0]:
                    return 400, {"error": answers.pop(0)}
                return 200, self.issue(scope="read")
        return 400, {"error": "unsupported_grant_type"}

    def refresh(self, token: str) -> tuple[int, dict[str, Any]]:
        refused = "bad_refresh_token" if self.style == "github" else "invalid_grant"
        family = self.live.get(token)
        if family is None:
            for name, members in self.families.items():
                if token in members:  # reuse: the whole family dies
                    self.reuses += 1
                    self.live = {k: v for k, v in self.live.items() if v != name}
                    self.access = {k: v for k, v in self.access.items() if v != name}
            return 400, {"error": refused}
        self.refreshes += 1
        body = self.issue(family)
        if self.rotate:
            del self.live[token]
        else:
            del body["refresh_token"]
        return 200, body


class Handler(BaseHTTPRequestHandler):
    provider: FakeProvider
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def answer(self, status: int, headers: dict[str, str] | None = None, body: Any = b"") -> None:
        headers = dict(headers or {})
        form = self.provider.style == "github" and "json" not in self.headers.get("Accept", "")
        if not isinstance(body, bytes):
            kind = "application/x-www-form-urlencoded" if form else self.provider.label
            if kind:
                headers.setdefault("Content-Type", kind)
            body = urlencode(body).encode() if form else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "Connection": "close", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def do_GET(self) -> None:
        p, url = self.provider, urlsplit(self.path)
        p.requests.append(self.path)
        p.agents.append(self.headers.get("User-Agent", ""))
        if url.path in p.places:
            self.answer(*p.places[url.path])
        elif ".well-known/" in url.path:
            self.answer(200, {}, p.document())
        elif url.path.endswith("/authorize") or url.path.endswith("/auth"):
            if p.consent and "answer=" not in url.query:
                self.answer(200, {"Content-Type": "text/html; charset=utf-8"}, p.consent_page(url.query))
            else:
                self.answer(*p.authorize(url.query))
        elif url.path.endswith(("/user", "/userinfo")):
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            known = token in self.provider.access
            if p.user_status:
                self.answer(p.user_status, {}, {"login": "ada"})
                return
            self.answer(200 if known else 401, {}, {"login": "ada"} if known else {"message": "Bad credentials"})
        else:
            self.answer(404, {}, {"message": "Not Found"})

    def do_POST(self) -> None:
        p = self.provider
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline(), 16):
                self.rfile.read(size + 2)
            self.rfile.readline()
        form = {k: v[0] for k, v in parse_qs(raw.decode()).items()}
        p.requests.append(self.path)
        p.agents.append(self.headers.get("User-Agent", ""))
        p.posts.append(form)
        if p.delay:
            time.sleep(p.delay)
        if p.faults:
            self.answer(*p.faults.pop(0))
        elif not p.authenticate(form, self.headers.get("Authorization", ""), needed=False):
            wrong = "incorrect_client_credentials" if p.style == "github" else "invalid_client"
            self.answer(200 if p.style == "github" else 401, {}, {"error": wrong})
        elif self.path.endswith("/revoke"):
            p.revoked.append(form.get("token", ""))
            self.answer(200, {}, {})
        elif self.path.endswith(("/device/code", "/devicecode")):
            code = p.new("dc-")
            p.devices[code] = list(p.device_answers)
            uri = "verification_url" if p.style == "google" else "verification_uri"
            self.answer(
                200,
                {},
                {
                    "device_code": code,
                    "user_code": "ABCD-EFGH",
                    uri: f"{p.base}/device",
                    "interval": p.interval,
                    "expires_in": 900,
                },
            )
        else:
            status, body = p.token(form, self.headers.get("Authorization", ""))
            if p.late:
                time.sleep(p.late)
            if p.style == "github" and "error" in body:
                status = 200  # GitHub reports failures with 200
            self.answer(status, {}, body)

    def do_DELETE(self) -> None:
        self.provider.agents.append(self.headers.get("User-Agent", ""))
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pair = f"{self.provider.client_id}:{self.provider.client_secret}".encode()
        good = self.headers.get("Authorization") == "Basic " + base64.b64encode(pair).decode()
        if good:
            self.provider.revoked.append(json.loads(raw)["access_token"])
        self.answer(204 if good else 401)


class Server(ThreadingHTTPServer):
    """Quiet about clients that were killed."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client hung up."""

    request_queue_size = 64

    def server_bind(self) -> None:  # the inherited one looks up a host name
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]


@contextmanager
def running(**options: Any) -> Iterator[FakeProvider]:
    """Serve a provider on a free loopback port."""
    provider = FakeProvider(**options)
    server = Server(("127.0.0.1", 0), type("H", (Handler,), {"provider": provider}))
    provider.base = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()

"""A14: no token, code, secret, verifier, state, key or prose of the provider shows, whatever fails.

Demanded of: `str`, `repr` and the pickle of every exception, and of all it came from; its traceback; the log at DEBUG; the
`repr` of every object; tool results, health, stdout and stderr of a server; every file but the store, and the store, too.

A traceback with local variables, as crash reporters take, does show text that a function was given: that is Python. What
can be demanded is that none of our objects there shows what it holds.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import pickle
import re
import traceback
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from mcp import Client

from .fake_provider import FakeProvider, running
from .package import (
    AuthError,
    BearerAuth,
    Cipher,
    FileStore,
    OAuth2Config,
    OAuth2Token,
    PKCECodeVerifier,
    TokenManager,
    TokenRecord,
    browser_login,
    device_login,
    key_of,
    logs,
)
from .support import flow_for, manager_for, sign_in
from .test_commands import Cli, read_url

PACKAGE = OAuth2Config.__module__.rpartition(".")[0]
CLIENT_SECRET, PROSE = "sentinel-client-secret", "sentinel-prose-of-the-provider"
TOKEN_KEY = base64.b64encode(b"sentinel-token-key-of-32-bytes..").decode()
JSON = {"Content-Type": "application/json"}
FAULTS: dict[str, tuple[int, dict[str, str], bytes]] = {
    "refused": (400, JSON, json.dumps({"error": "invalid_grant", "error_description": PROSE}).encode()),
    "settings": (401, JSON, json.dumps({"error": "invalid_client", "error_description": PROSE}).encode()),
    "prose": (400, JSON, json.dumps({"error": f"{PROSE} is no code"}).encode()),
    "down": (500, {}, PROSE.encode()),
    "redirect": (302, {"Location": "http://127.0.0.1:1/"}, PROSE.encode()),
    "bad token": (200, JSON, json.dumps({"access_token": f"{PROSE}\n"}).encode()),
    "not json": (200, JSON, f'"access_token": {PROSE}'.encode()),
    "html": (200, {"Content-Type": "text/html"}, PROSE.encode()),
    "gzip": (200, {"Content-Encoding": "gzip"}, PROSE.encode()),
    "cut off": (200, {"Content-Length": "999"}, PROSE.encode()),
}

IN_SERVER = ("bad token", "gzip", "cut off", "redirect", "settings", "refused")  # the last one ends the sign-in


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with running(client_secret=CLIENT_SECRET) as provider:
        yield provider


@pytest.fixture
def debug_log(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """What the server logs at DEBUG, and the HTTP libraries, too, which it keeps quiet: they log the headers of answers."""
    root, http = logging.getLogger(), [logging.getLogger(name) for name in ("httpx", "httpcore")]
    before = root.handlers[:], root.level, [logger.level for logger in http]
    for logger in http:
        logger.setLevel(logging.DEBUG)
    logs.configure("DEBUG")
    for logger in http:
        assert not logger.isEnabledFor(logging.INFO)
        logger.setLevel(logging.DEBUG)
    yield lambda: "".join(capsys.readouterr())
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    for logger, level in zip(http, before[2], strict=True):
        logger.setLevel(level)


class Person:
    """Signs in through the listener, remembers what must not show, and lets things fail."""

    def __init__(self, p: FakeProvider, folder: Path) -> None:
        self.provider, self.flow = p, flow_for(p)
        self.store = FileStore(folder / "sign-in", lambda: Cipher(TOKEN_KEY))
        self.failures: dict[str, BaseException] = {}
        self.redirect, self.states = "", list[str]()

    def login(self, query: Callable[[str], str] = lambda query: query, timeout: float = 20) -> OAuth2Token:
        """As `login` does, with `query` as the redirect's; the browser does not follow it elsewhere."""

        def opener(url: str) -> None:
            _, headers = self.provider.authorize(urlsplit(url).query)
            address, _, self.redirect = headers["Location"].partition("?")
            self.states += parse_qs(self.redirect)["state"]
            try:
                urllib.request.urlopen(f"{address}?{query(self.redirect)}", timeout=30).close()
            except urllib.error.HTTPError as error:
                error.close()

        return asyncio.run(browser_login(self.flow, opener=opener, timeout=timeout, tell=lambda _: None))

    def fails(self, name: str, call: Callable[[], object]) -> None:
        with pytest.raises((AuthError, ValueError)) as caught:
            call()
        logging.getLogger("test").debug("failed: %s", name, exc_info=caught.value)
        self.failures[name] = caught.value

    def secrets(self) -> list[str]:
        """Everything that must show nowhere, so far."""
        verifiers = [post["code_verifier"] for post in self.provider.posts if "code_verifier" in post]
        key = base64.b64decode(TOKEN_KEY).decode()
        found = [CLIENT_SECRET, PROSE, TOKEN_KEY, key, *self.states, *verifiers, *self.provider.secret_values]
        assert len(found) >= 8
        return found


def shown(secrets: list[str], text: str) -> list[str]:
    """Those of the secrets that show, also where Base64 wraps them for HTTP Basic."""
    return [it for it in secrets if it in text or base64.b64encode(f"client-1:{it}".encode()).decode() in text]


def everything_that_fails(person: Person) -> dict[str, BaseException]:
    p, flow, store, key = person.provider, person.flow, person.store, key_of(person.flow)
    token = person.login()
    record = TokenRecord(token.access_token, token.refresh_token, 1.0, token_url=flow.config.token_url)
    manager = TokenManager(flow, store=store, sleep=lambda _: None)
    for name, fault in FAULTS.items():
        calls: dict[str, Callable[[], object]] = {
            "login": person.login,
            "exchange": lambda: asyncio.run(flow.exchange_code("code-of-before", "v" * 43, "http://127.0.0.1:1/")),
            "refresh": lambda: asyncio.run(flow.refresh_token(token.refresh_token)),
            "device": lambda: asyncio.run(device_login(flow, tell=lambda _: None)),
            "renewal": lambda: asyncio.run(manager.renew(token.access_token)),
        }
        if fault[0] != 200:  # of a revocation's answer, only the status counts
            calls["revoke"] = lambda: asyncio.run(flow.revoke(token))
        for what, call in calls.items():
            store.save(key, record)
            p.faults = [fault] * 3
            person.fails(f"{what}: {name}", call)
    p.faults = []
    person.fails("other state", lambda: person.login(lambda query: query.replace("state=", "state=x"), 0.5))
    person.fails("other issuer", lambda: person.login(lambda query: query.replace("iss=", "iss=x")))
    person.fails("declined", lambda: person.login(lambda query: query.replace("code=", "error=access_denied&c=")))
    person.fails("odd error", lambda: person.login(lambda query: query.replace("code=", f"error={PROSE}%20&c=")))
    person.fails("no verifier", lambda: asyncio.run(flow.exchange_code(parse_qs(person.redirect)["code"][0])))
    person.fails("short verifier", lambda: PKCECodeVerifier(CLIENT_SECRET))
    person.fails("no key", lambda: Cipher(CLIENT_SECRET))
    person.fails("bad secret", lambda: OAuth2Config("client-1", p.base, p.base, client_secret=f"{CLIENT_SECRET}\n"))
    person.fails("another key", lambda: FileStore(store.directory, lambda: Cipher("11" * 32)).load(key))
    (file,) = store.directory.glob("*.json")
    good = file.read_text()
    for name, bad in {"cut": good[:-9], "changed": good.replace('"ct": "', '"ct": "AA'), "plain": PROSE}.items():
        file.write_text(bad)
        person.fails(f"store: {name}", lambda: store.load(key))
    file.write_text(good)
    file.chmod(0o644)
    person.fails("store: open to others", lambda: store.load(key))
    return person.failures


def chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and what it came from, also where `from None` hides that."""
    yield error
    for origin in (error.__cause__, error.__context__):
        if origin is not None:
            yield from chain(origin)


def test_a14_exceptions_and_the_log_at_debug(
    provider: FakeProvider, tmp_path: Path, debug_log: Callable[[], str]
) -> None:
    person = Person(provider, tmp_path)
    failures = everything_that_fails(person)
    secrets, log = person.secrets(), debug_log()
    assert log.count("failed: ") >= len(failures) > 60
    assert "receive_response_headers" in log  # the HTTP library was heard
    assert shown(secrets, log) == []
    checked = set[str]()
    for name, failure in failures.items():
        for error in chain(failure):
            rendered = "".join(traceback.format_exception(error, chain=False))
            assert shown(secrets, f"{rendered} {error} {error!r} {error.args!r}") == [], name
            if isinstance(error, AuthError):
                assert shown(secrets, repr(vars(error))) == [], name
                assert shown(secrets, pickle.dumps(error).decode("latin-1")) == [], name
                assert str(pickle.loads(pickle.dumps(error))) == str(error)
            for frame, _ in traceback.walk_tb(error.__traceback__):
                for variable, value in frame.f_locals.items():
                    if type(value).__module__.startswith(PACKAGE):
                        checked.add(type(value).__name__)
                        assert shown(secrets, repr(value)) == [], (name, variable)
    assert {"OAuth2Flow", "OAuth2Config", "Reply", "AuthorizationRequest", "TokenManager"} <= checked


@pytest.mark.parametrize("fault", ["down", "gzip", "cut off", "not json"])
def test_a14_what_a_tool_call_gets_holds_no_frame_of_the_exchange(
    provider: FakeProvider, tmp_path: Path, fault: str
) -> None:
    """So that not even a crash reporter that takes local variables along can send a token away."""
    record = sign_in(provider, tmp_path)
    provider.faults = [FAULTS[fault]] * 3
    with pytest.raises(AuthError) as caught:
        asyncio.run(manager_for(provider, tmp_path, sleep=lambda _: None).get_token())
    error = caught.value
    assert (error.__cause__, error.__context__) == (None, None)
    stack = traceback.TracebackException.from_exception(error, capture_locals=True).stack
    shown = str([frame.locals for frame in stack if Path(__file__).parent.as_posix() not in frame.filename])
    assert not [it for it in (record.access_token, record.refresh_token, "s3cret", PROSE) if str(it) in shown]


def test_a14_objects_show_nothing_of_what_they_hold(provider: FakeProvider, tmp_path: Path) -> None:
    person = Person(provider, tmp_path)
    flow, store, token = person.flow, person.store, person.login()
    flow.get_authorization_url()  # the flow holds a verifier now
    request = asyncio.run(flow.begin("http://127.0.0.1:1/callback"))
    record = TokenRecord(token.access_token, token.refresh_token)
    store.save(key_of(flow), record)
    manager, given = TokenManager(flow, store=store), TokenManager(flow, token.refresh_token)
    assert asyncio.run(manager.get_token()) == token.access_token
    pkce, key = PKCECodeVerifier(request.verifier), key_of(flow)
    of_the_flow: list[object] = [flow, flow.config, flow._pending, request, pkce, token]
    of_the_store: list[object] = [store, given._store, Cipher(TOKEN_KEY), key, record]
    objects = [*of_the_flow, *of_the_store, manager, given, BearerAuth(manager, provider.base)]
    secrets = [*person.secrets(), request.state, request.verifier]
    assert flow._pending is not None
    secrets += [flow._pending.state, flow._pending.verifier]
    for it in (*objects, manager.status(), objects):
        assert shown(secrets, f"{it} {it!r}") == [], type(it)


def test_a14_a15_a_server_tells_nothing(provider: FakeProvider, tmp_path: Path) -> None:
    """Its tools, its health and its log at DEBUG, while the renewal fails in every way."""
    cli = Cli(
        provider,
        tmp_path,
        OAUTH_CLIENT_SECRET=CLIENT_SECRET,
        TOKEN_KEY=TOKEN_KEY,
        API_BASE_URL=provider.base,
        MCP_LOG_LEVEL="DEBUG",
    )
    login = cli.start("login", "--no-browser")
    address, _ = read_url(login)
    urllib.request.urlopen(address, timeout=30).close()
    _, said = login.communicate(timeout=30)
    server = cli.start("serve", "--http", "--port", "0")
    assert server.stderr
    log = ""
    for line in server.stderr:
        log += line
        if "startup complete" in line:
            break
    url = re.search(r"Serving (http://\S+)/mcp", log)
    assert url, log
    told: list[str] = []
    try:
        told, failed = asyncio.run(calls(url[1], provider))
        for path in ("/health", "/ready"):
            told.append(probe(url[1] + path))
    finally:
        server.terminate()
        out, err = server.communicate(timeout=15)
    assert failed == len(IN_SERVER)
    assert '"status":"not ready"' in told[-1].replace('": "', '":"')
    secrets = [CLIENT_SECRET, PROSE, TOKEN_KEY, *parse_qs(urlsplit(address).query)["state"], *provider.secret_values]
    secrets += [post["code_verifier"] for post in provider.posts if "code_verifier" in post]
    assert len(secrets) >= 8
    log += err
    assert "token renewal failed: bad_encoding" in log
    for where, text in {"stdout": out, "log": log, "login": said, "told": "\n".join(told)}.items():
        assert shown(secrets, text) == [], where
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.suffix for path in files if path.parent == cli.data / "sign-in"].count(".json") == 1
    for file in files:
        assert shown(secrets, file.read_bytes().decode("latin-1")) == [], file


async def calls(url: str, p: FakeProvider) -> tuple[list[str], int]:
    """Have a tool use the API once in peace, then once for each of IN_SERVER, which spoils the renewal that a 401 asks for."""
    told, failed = [], 0
    async with Client(f"{url}/mcp") as client:
        for name in ("", *IN_SERVER):
            if name:
                p.access.clear()
                p.faults = [FAULTS[name]] * 3
            result = await client.call_tool("probe_fetch", {"path": "/user"})
            health = await client.call_tool("health_check")
            told += [result.model_dump_json(), health.model_dump_json()]
            failed += bool(result.is_error)
    return told, failed


def probe(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()

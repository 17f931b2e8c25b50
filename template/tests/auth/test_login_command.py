"""`login`, `status` and `logout` within this process: what they refuse before the browser opens, and what they leave behind."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import re
import socket
import threading
import time
import urllib.request
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from .fake_provider import FakeProvider, running
from .package import (
    Cipher,
    FileStore,
    OAuth2Flow,
    OAuth2Token,
    Sources,
    TokenRecord,
    TransientAuthError,
    cli,
    key_of,
    sign_in,
    signin,
)
from .support import TOKEN_KEY, flow_for
from .test_login import BAD_REDIRECTS, free_port

STYLES = {"rfc": "custom", "github": "github", "google": "google", "azure": "azure"}
CONSOLES = {
    "github": "{base}/settings/developers",
    "google": "https://console.cloud.google.com/auth/clients as a desktop app",
    "azure": "https://entra.microsoft.com/ under App registrations",
    "rfc": "with the provider (Fake)",
}


def follow(url: str) -> None:
    """Open an address and go where it leads, as a browser does."""
    urllib.request.urlopen(url, timeout=10).close()


def redirect_in(url: str) -> str:
    return parse_qs(urlsplit(url).query)["redirect_uri"][0]


class Person:
    """One who types commands: `person("login", "--port", "1")`. Their browser goes wherever it is sent."""

    def __init__(
        self, p: FakeProvider, folder: Path, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.provider = p
        self.data = folder / "data"
        self.opened: list[tuple[Any, ...]] = []
        self.said = ""
        self.visit: Callable[[str], object] = follow
        self.env = {
            "ENV_FILE": os.environ["ENV_FILE"],
            "MCP_DATA_DIR": str(self.data),
            "MCP_KEYRING": "off",
            "OAUTH_CLIENT_ID": p.client_id,
            "OAUTH_CLIENT_SECRET": p.client_secret or "",
            "TOKEN_KEY": TOKEN_KEY,
        }
        options: dict[str, Any] = {"scopes": ["openid"] if p.style == "google" else ["read"], "base_url": p.base}
        if p.style == "rfc":
            options = {"scopes": ["read"], "issuer": p.base, "name": "Fake"}
        patch.setattr(signin, "SOURCES", Sources(self.env, project_dir=folder))
        patch.setattr(signin, "OAUTH_PROVIDER", STYLES[p.style])
        patch.setattr(signin, "OAUTH_OPTIONS", options)
        for module in (cli, sign_in, signin):
            patch.setattr(module, "COMMAND", "demo")
        patch.setattr(webbrowser, "open", self._browse)
        self._capsys = capsys

    def _browse(self, *args: Any) -> None:
        self.opened.append(args)
        self.visit(args[0])

    def __call__(self, *command: str) -> tuple[int, str, str]:
        """The exit code, and what was printed to stdout and stderr."""
        if command[0] == "login" and not any(it.startswith("--timeout") for it in command):
            command = (*command, "--timeout", "30")
        signin.manager.cache_clear()
        code = cli.main(command)
        out, self.said = self._capsys.readouterr()
        return code, out, self.said

    def refused(self, *command: str) -> str:
        """The one line of a command that is refused before the browser opens, and before the provider hears of it."""
        code, out, err = self(*command)
        assert (code, out, len(err.splitlines())) == (2, "", 1), err
        assert err.startswith("demo: ")
        assert (self.opened, self.provider.requests) == ([], [])
        assert not list(self.data.rglob("*.json"))
        return err

    @property
    def store(self) -> FileStore:
        return FileStore(self.data / "sign-in", lambda: Cipher(TOKEN_KEY))

    def stored(self) -> TokenRecord:
        record = self.store.load(key_of(signin.flow()))
        assert record is not None
        return record


@pytest.fixture
def person(
    provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Person:
    return Person(provider, tmp_path, monkeypatch, capsys)


# -- what is refused before the browser opens


@pytest.mark.parametrize("way", [(), ("--paste",), ("--device",), ("--no-browser",)])
@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--port", ["99999", "65536", "-1", "abc", "", "80.5", "0x50", " 80", "８０", "nan"]),
        ("--timeout", ["nan", "inf", "-inf", "-1", "0", "abc", "", "1e9", "86401"]),
        ("--listen", ["nonsense", "", "localhost", "999.0.0.1", "0.0.0.0:8085", "[::1]", "http://0.0.0.0", "1"]),
    ],
)
def test_an_argument_that_cannot_work(person: Person, way: tuple[str, ...], option: str, values: list[str]) -> None:
    for value in values:
        assert option in person.refused("login", *way, f"{option}={value}")


def test_arguments_that_can_work(person: Person) -> None:
    for arguments in (("--port", "0"), ("--port", str(free_port())), ("--timeout", "30.5"), ("--listen", "127.0.0.1")):
        code, out, err = person("login", *arguments)
        assert (code, out) == (0, ""), err


def test_a_listener_that_cannot_be(person: Person) -> None:
    assert "Leave --listen away" in person.refused("login", "--listen", "192.0.2.1")
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        assert "another --port" in person.refused("login", "--port", str(squatter.getsockname()[1]))


@pytest.mark.parametrize("way", [(), ("--paste",), ("--listen", "0.0.0.0", "--port", "8085")])
def test_an_unusable_redirect(person: Person, way: tuple[str, ...]) -> None:
    bad = [uri for uri in BAD_REDIRECTS if uri and uri.strip() == uri]
    for uri in bad[::3]:  # all of them: test_login.py
        person.env["OAUTH_REDIRECT_URI"] = uri
        said = person.refused("login", *way)
        assert "OAUTH_REDIRECT_URI is not usable" in said
        assert "http://localhost:8085/callback" in said
        assert uri not in said.replace("http://localhost:8085/callback", "")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:1080"),
        ("HTTPS_PROXY", "http://user:hunter2@"),
        ("NO_PROXY", "localhost,[::1]"),
        ("SSL_CERT_FILE", "/nonexistent/hunter2.pem"),
    ],
)
def test_an_environment_in_which_no_request_works(
    person: Person, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    for way in ((), ("--paste",), ("--device",)):
        said = person.refused("login", *way)
        assert name in said
        assert "hunter2" not in said
    assert not person.data.exists()


@pytest.mark.parametrize("style", STYLES)
def test_a_fresh_project_says_where_an_id_comes_from(
    style: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(style=style) as p:
        person = Person(p, tmp_path, monkeypatch, capsys)
        person.env["OAUTH_CLIENT_ID"] = ""
        host = "localhost" if style == "azure" else "127.0.0.1"
        for command in (("login",), ("login", "--device"), ("status",), ("logout",)):
            said = person.refused(*command)
            assert "Missing required auth: OAUTH_CLIENT_ID. Set OAUTH_CLIENT_ID environment variable. " in said
            assert CONSOLES[style].replace("{base}", p.base) in said
            assert f"enter http://{host}/callback." in said
            assert said.endswith(": demo secrets set OAUTH_CLIENT_ID\n")
        person.env["OAUTH_REDIRECT_URI"] = "http://localhost:7777/back"
        assert "enter http://localhost:7777/back." in person.refused("login")


@pytest.mark.parametrize("style", ["github", "google"])
def test_a_missing_secret_says_where_it_comes_from(
    style: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(style=style) as p:
        person = Person(p, tmp_path, monkeypatch, capsys)
        person.env["OAUTH_CLIENT_SECRET"] = ""
        for way in ((), ("--paste",), ("--no-browser",)):
            said = person.refused("login", *way)
            assert "Missing required auth: OAUTH_CLIENT_SECRET. Set OAUTH_CLIENT_SECRET environment variable" in said
            assert ("or use --device" in said) == (style == "github")
            assert CONSOLES[style].replace("{base}", p.base) in said
            assert said.endswith(": demo secrets set OAUTH_CLIENT_SECRET\n")
        assert not person.data.exists()  # no key was made either


def test_a_credential_with_a_blank_keeps_its_own_words(person: Person) -> None:
    person.env["OAUTH_CLIENT_ID"] = "two words"
    assert "secrets set" not in person.refused("login")


@pytest.mark.parametrize("name", ["ACCESS_TOKEN", "REFRESH_TOKEN"])
def test_a_given_token_is_the_sign_in(person: Person, name: str) -> None:
    person.env[name] = "given-token"
    assert "Unset it to use login" in person.refused("login")
    code, out, _ = person("status")
    assert (code, "memory only" in out) == (0, True)
    assert not person.data.exists()


def test_a_relative_data_directory(person: Person) -> None:
    person.env["MCP_DATA_DIR"] = "data"
    assert re.search(r"MCP_DATA_DIR.* is not a whole path", person.refused("login"))


def test_an_unsafe_folder(person: Person) -> None:
    folder = person.data / "sign-in"
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    assert f"chmod 700 {folder}" in person.refused("login")


def test_no_place_for_a_key(person: Person) -> None:
    person.env["TOKEN_KEY"] = ""
    assert "TOKEN_KEY" in person.refused("login")
    person.env["TOKEN_KEY"] = "too short"
    assert "TOKEN_KEY" in person.refused("login")


# -- the redirect that is given whole


@pytest.mark.parametrize("style", STYLES)
def test_a_whole_redirect_for_every_provider(
    style: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(style=style) as p:
        person = Person(p, tmp_path, monkeypatch, capsys)
        port = free_port()
        uri = f"http://localhost:{port}/callback"
        person.env["OAUTH_REDIRECT_URI"] = f" {uri}\n"
        for arguments in ((), ("--port", str(port)), ("--port", str(port), "--listen", "0.0.0.0")):
            code, _, err = person("login", *arguments)
            assert code == 0, err
            assert redirect_in(person.opened[-1][0]) == uri
            assert p.posts[-1]["redirect_uri"] == uri


def test_another_port_than_that_of_the_whole_redirect(person: Person) -> None:
    person.env["OAUTH_REDIRECT_URI"] = "http://localhost:8085/callback"
    for way in ((), ("--paste",), ("--listen", "0.0.0.0")):
        assert "--port 8086 is not the port of OAUTH_REDIRECT_URI, 8085" in person.refused(
            "login", "--port", "8086", *way
        )


def test_a_container_listens_where_it_is_told(person: Person) -> None:
    bound: list[str] = []

    def visit(url: str) -> None:
        port = urlsplit(redirect_in(url)).port or 0
        with socket.create_connection(("127.0.0.2", port), timeout=5) as connection:
            bound.append(connection.getpeername()[0])
        follow(url)

    person.visit = visit
    code, _, err = person("login", "--listen", "0.0.0.0")
    assert (code, bound) == (0, ["127.0.0.2"]), err


def test_elsewhere_only_loopback_is_listened_to(person: Person) -> None:
    refused: list[int] = []

    def visit(url: str) -> None:
        port = urlsplit(redirect_in(url)).port or 0
        try:
            socket.create_connection(("127.0.0.2", port), timeout=5).close()
        except OSError:
            refused.append(port)
        follow(url)

    person.visit = visit
    assert person("login")[0] == 0
    assert len(refused) == 1


# -- what a sign-in leaves behind


def test_a_sign_in_records_where_its_tokens_may_go(person: Person) -> None:
    person.provider.metadata = {"userinfo_endpoint": f"{person.provider.base}/userinfo"}
    before = time.time()
    assert person("login")[0] == 0
    record = person.stored()
    p = person.provider
    assert record.access_token in p.access
    assert record.refresh_token in p.live
    assert (record.token_url, record.revocation_url) == (f"{p.base}/token", f"{p.base}/revoke")
    assert (record.state, record.attempt, record.account, record.scopes) == ("ok", None, "ada", ("read",))
    assert before <= record.obtained_at <= time.time()
    assert before + 3600 <= (record.expires_at or 0) <= time.time() + 3600


def test_a_sign_in_is_good_without_a_name(person: Person) -> None:
    person.provider.metadata = {"userinfo_endpoint": "http://127.0.0.1:1/userinfo"}  # nobody answers there
    code, _, err = person("login")
    assert (code, "Signed in to Fake.\n" in err) == (0, True)
    assert person.stored().account == ""


def test_the_browser_gets_one_argument(person: Person) -> None:
    assert person("login")[0] == 0
    ((url,),) = person.opened
    assert url.startswith(f"{person.provider.base}/authorize?")
    person.visit = lambda url: pytest.fail("opened")
    code, _, err = person("login", "--no-browser", "--timeout", "0.1")
    assert (code, "within 0.1 seconds" in err, len(person.opened)) == (1, True, 1)


def test_a_port_counts_for_the_pasted_address_too(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

        def fileno(self) -> int:
            raise OSError(5, "no terminal any more")  # the address was shown before it is read

    monkeypatch.setattr("sys.stdin", Terminal())
    with contextlib.suppress(OSError):
        person("login", "--paste", "--port", "9999")
    assert "begins with http://127.0.0.1:9999/callback." in person._capsys.readouterr().err + person.said


HOUR = 3600


@pytest.mark.parametrize(
    ("lasts", "refreshes", "said"),
    [
        (8 * HOUR, False, "The token expires in 8 hours, and no refresh token came: sign in again then."),
        (8 * HOUR, True, "The token expires in 8 hours, and is renewed before that."),
        (HOUR, True, "The token expires in 60 minutes, and is renewed before that."),
        (90, False, "The token expires in 90 seconds, and no refresh token came: sign in again then."),
        (14 * 24 * HOUR, False, "The token expires in 14 days, and no refresh token came: sign in again then."),
        (
            None,
            False,
            "does not say when the token expires, and no refresh token came: sign in again once the API refuses",
        ),
        (None, True, None),
    ],
)
def test_login_says_how_long_it_lasts(person: Person, lasts: int | None, refreshes: bool, said: str | None) -> None:
    body: dict[str, Any] = {"access_token": "at-1", "token_type": "bearer", "expires_in": lasts}
    if refreshes:
        body["refresh_token"] = "rt-1"

    def visit(url: str) -> None:
        person.provider.faults = [(200, {"Content-Type": "application/json"}, json.dumps(body).encode())]
        follow(url)

    person.visit = visit
    code, _, err = person("login")
    assert code == 0
    assert (said or "Signed in to Fake.") in err
    if said is None:
        assert "token" not in err.partition("Signed in to Fake.")[2]


@pytest.mark.parametrize(
    ("asked", "granted", "note"),
    [
        (["read"], "read", None),
        (["read", "write", "admin"], "read", "Note: not granted as asked: admin write\n"),
        (["read", "write"], "read,write", None),
        (["email"], "https://www.googleapis.com/auth/userinfo.email", None),
        (["read", "offline_access"], "read", None),
        (["reading"], "read", "Note: not granted as asked: reading\n"),
        (["read"], "", None),
    ],
)
def test_login_says_what_was_not_granted(asked: list[str], granted: str, note: str | None) -> None:
    flow = flow_for(FakeProvider(base="http://127.0.0.1:1"), scopes=asked)
    record = TokenRecord("at", "rt", None, scopes=tuple(granted.replace(",", " ").split()))
    lines = "".join(f"{line}\n" for line in sign_in._outcome(flow, record))
    assert ("not granted" in lines, note is None or note in lines) == (note is not None, True)


class Held:
    """The store's lock, held by another: what is called meanwhile has to wait."""

    def __init__(self, person: Person) -> None:
        self._lock = person.store.lock(key_of(signin.flow()))

    def __enter__(self) -> None:
        self._lock.__enter__()

    def __exit__(self, *_: object) -> None:
        self._lock.__exit__(None, None, None)


def test_login_saves_under_the_lock(person: Person) -> None:
    """So that a renewal that is under way for the one before cannot overwrite it."""
    seen: list[bool] = []

    def visit(url: str) -> None:
        with Held(person):
            follow(url)
            end = time.monotonic() + 10
            while not person.provider.access and time.monotonic() < end:
                time.sleep(0.01)
            time.sleep(0.2)  # it has the token; nothing but the lock keeps it
            seen.append(bool(list(person.data.rglob("*.json"))))

    person.visit = visit
    assert person("login")[0] == 0
    assert seen == [False]
    assert person.stored().access_token in person.provider.access


@pytest.mark.parametrize("command", ["login", "logout"])
def test_nothing_begins_while_another_holds_the_lock(person: Person, command: str) -> None:
    assert person("login")[0] == 0
    before = len(person.provider.requests), len(person.opened)
    held = Held(person)
    with held:
        thread = threading.Thread(target=cli.main, args=([command],))
        thread.start()
        time.sleep(0.2)
        assert (len(person.provider.requests), len(person.opened)) == before
        assert person.stored().state == "ok"
    thread.join(timeout=20)
    assert not thread.is_alive()
    assert bool(list(person.data.rglob("*.json"))) == (command == "login")


def test_in_plain_text_only_when_asked_and_never_in_silence(person: Person) -> None:
    assert "PLAIN TEXT" not in person("login")[2]
    (file,) = person.data.rglob("*.json")
    assert person.stored().access_token not in file.read_text()
    person.env["TOKEN_KEY"] = ""
    code, _, err = person("login", "--insecure-plaintext-storage")
    assert (code, "Warning: the tokens are stored in PLAIN TEXT" in err) == (0, True)
    assert person.provider.posts[-1]["code"] not in file.read_text()
    assert any(token in file.read_text() for token in person.provider.access)


def test_a_connection_that_is_still_open_at_the_end_is_no_traceback(
    person: Person, caplog: pytest.LogCaptureFixture
) -> None:
    """Browsers open one more than they need."""
    idle: list[socket.socket] = []

    def visit(url: str) -> None:
        idle.append(socket.create_connection(("127.0.0.1", urlsplit(redirect_in(url)).port or 0), timeout=10))
        follow(url)

    person.visit = visit
    assert person("login")[0] == 0
    person.visit = lambda url: visit(f"{url}&answer=Cancel")
    code, _, err = person("login")
    assert (code, "Traceback" in err) == (1, False)
    assert [record for record in caplog.records if record.name == "asyncio"] == []
    for connection in idle:
        connection.close()


def test_a_failed_sign_in_leaves_the_one_before(person: Person) -> None:
    assert person("login")[0] == 0
    before = person.stored()
    person.visit = lambda url: None
    assert person("login", "--timeout", "0.1")[0] == 1
    person.provider.faults = [(500, {}, b"")]
    person.visit = follow
    assert person("login")[0] == 1
    assert person.stored() == before


def test_what_a_person_has_to_do_again_is_named(person: Person) -> None:
    def decline(url: str) -> None:
        follow(f"{url}&answer=Cancel")

    person.visit = decline
    code, _, err = person("login")
    assert code == 1
    assert err.splitlines()[-1].endswith("(access_denied). Run: demo login")


# -- status and logout


def test_status_tells_and_exits(person: Person) -> None:
    code, out, _ = person("status")
    assert (code, "signed in:   no. Run: demo login\n" in out) == (1, True)
    person.provider.metadata = {"userinfo_endpoint": f"{person.provider.base}/userinfo"}
    assert person("login")[0] == 0
    asked = len(person.provider.requests)
    code, out, err = person("status")
    assert (code, err, len(person.provider.requests)) == (0, "", asked)
    rows = dict(line.split(":", 1) for line in out.splitlines())
    assert {name: value.strip() for name, value in rows.items() if name not in ("expires in", "stored in")} == {
        "provider": "Fake",
        "signed in": "yes",
        "account": "ada",
        "scopes": "read",
        "refreshable": "yes",
        "last error": "none",
    }
    save(person, expires_at=time.time() - 10, refresh_token=None)
    code, out, _ = person("status")
    assert code == 1
    assert "expires in:  expired" in out
    assert "refreshable: no" in out
    save(person, expires_at=None)
    assert "expires in:  unknown" in person("status")[1]


def save(person: Person, **changes: Any) -> None:
    record = TokenRecord(**person.stored().__dict__ | changes)
    store = person.store
    with store.lock(key_of(signin.flow())):
        store.save(key_of(signin.flow()), record)


def test_logout_revokes_first_and_then_deletes(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    assert person("login")[0] == 0
    record = person.stored()
    there: list[bool] = []
    revoke = OAuth2Flow.revoke

    async def watched(flow: OAuth2Flow, token: OAuth2Token, url: str = "", *more: str) -> bool:
        there.append(bool(list(person.data.rglob("*.json"))))
        assert url == record.revocation_url
        return await revoke(flow, token, url, *more)

    monkeypatch.setattr(OAuth2Flow, "revoke", watched)
    code, out, err = person("logout")
    assert (code, out, err) == (0, "", "Signed out at Fake and here.\n")
    assert (there, person.provider.revoked) == ([True], [record.refresh_token])
    assert not list(person.data.rglob("*.json"))
    assert person("logout") == (0, "", "Nobody was signed in.\n")
    assert len(person.provider.revoked) == 1


@pytest.mark.parametrize("fault", [(503, {}, b""), (400, {}, b"{}"), (302, {"Location": "http://127.0.0.1:1/"}, b"")])
def test_logout_deletes_in_any_case(person: Person, fault: Any) -> None:
    assert person("login")[0] == 0
    person.provider.faults = [fault]
    code, _, err = person("logout")
    assert code == 0
    assert f"Could not revoke at Fake (http_{fault[0]}); deleting it here all the same." in err
    assert "Signed out here; Fake was not told." in err
    assert not list(person.data.rglob("*.json"))


def test_logout_deletes_where_no_request_works(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    assert person("login")[0] == 0
    asked = len(person.provider.requests)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    code, _, err = person("logout")
    assert (code, "ALL_PROXY" in err, "not told" in err) == (0, True, True)
    assert len(person.provider.requests) == asked
    assert not list(person.data.rglob("*.json"))


def test_logout_deletes_what_cannot_be_read(person: Person) -> None:
    assert person("login")[0] == 0
    (file,) = person.data.rglob("*.json")
    file.write_text("no JSON")
    code, _, err = person("logout")
    assert (code, "(damaged)" in err, file.exists()) == (0, True, False)
    assert person.provider.revoked == []


def test_logout_deletes_even_when_it_fails_itself(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any) -> bool:
        raise RuntimeError("a bug")

    assert person("login")[0] == 0
    monkeypatch.setattr(OAuth2Flow, "revoke", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        person("logout")
    assert not list(person.data.rglob("*.json"))


def test_logout_says_that_a_given_token_stays(person: Person) -> None:
    person.env["REFRESH_TOKEN"] = "given-token"
    code, _, err = person("logout")
    assert code == 0
    assert "is still set and is used as the sign-in: unset it." in err
    del person.env["REFRESH_TOKEN"]
    assert "still set" not in person("logout")[2]


def test_a_signed_out_process_does_not_sign_in_again(person: Person) -> None:
    assert person("login")[0] == 0
    signin.manager.cache_clear()
    assert asyncio.run(signin.manager().get_token())
    assert person("logout")[0] == 0
    person.provider.faults = [(503, {}, b"")] * 3
    with pytest.raises(Exception, match="Not signed in") as caught:
        asyncio.run(signin.manager().get_token())
    assert not isinstance(caught.value, TransientAuthError)


def test_a_base_url_is_for_the_providers_that_have_one(person: Person) -> None:
    person.env["OAUTH_BASE_URL"] = "https://elsewhere.example"  # of another project, in the same environment
    flow = signin.flow()
    assert (flow.config.issuer, flow.config.name) == (person.provider.base, "Fake")

"""The three ways to sign in: the browser and its redirect, the pasted address, and the clock of the device flow."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import threading
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from .fake_provider import FakeProvider
from .package import (
    AuthError,
    CallbackServer,
    ConfigError,
    LoginRequired,
    OAuth2Flow,
    ProtocolError,
    Redirect,
    Reply,
    browser_login,
    check_login,
    device_login,
    open_browser,
    paste_login,
    transport,
)
from .support import flow_for
from .test_callback import send

pytestmark = pytest.mark.anyio


def quiet(text: str) -> None:
    """Tell nobody."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def asked(p: FakeProvider, url: str) -> str:
    """Where the provider sends the browser after the consent."""
    return p.authorize(urlsplit(url).query)[1]["Location"]


async def test_a2_a3_a9_a19_the_listener_under_attack(provider: FakeProvider) -> None:
    flow = flow_for(provider)
    requests: list[Any] = []
    async with CallbackServer(lambda q: flow.read_redirect(requests[0], q), host="127.0.0.1") as server:
        request = await flow.begin(server.redirect_uri)
        requests.append(request)
        good = urlencode({"code": "CODE", "state": request.state, "iss": provider.base})
        xss = urlencode({"error": "<script>", "error_description": '"><img onerror=x>', "state": "<b>", "code": "<i>"})
        bad = [
            await send(server.port, f"/callback?{xss}"),
            await send(server.port, "/callback?error=access_denied"),
            await send(server.port, "/callback"),
            await send(server.port, "/favicon.ico"),
            await send(server.port, f"/<script>?{good}"),
            await send(server.port, f"/callback?{good}", method="POST"),
            await send(server.port, f"/callback?{good}", method="HEAD"),
            await send(server.port, f"/callback?{good}", host="evil.example"),
            await send(server.port, f"/callback?{good}", host=f"127.0.0.1.evil.example:{server.port}"),
            await send(server.port, f"/callback?{good}", extra="Host: evil.example\r\n"),
            await send(server.port, f"/callback?{good}&code=other"),
            await send(server.port, "/callback?state=%ff%fe&code=x"),
            await send(server.port, f"/callback?next=//evil.example&{xss}"),
            await send(server.port, "/callback?" + "&".join(f"a{n}=" for n in range(50))),
        ]
        assert len(set(bad)) == 1  # constant, whatever was sent
        for header in ("Content-Security-Policy: default-src 'none'", "X-Content-Type-Options: nosniff"):
            assert header in bad[0]
        assert bad[0].startswith("HTTP/1.1 400")
        assert "Location" not in bad[0]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(server._code), 0.01)
        answer = await send(server.port, f"/callback?{good}")
        assert answer.startswith("HTTP/1.1 200")
        assert "CODE" not in answer
        assert await server.wait(1) == "CODE"
        assert (await send(server.port, f"/callback?{good}")).startswith("HTTP/1.1 400")  # replay


async def test_a5_a_wrong_iss_ends_the_sign_in(provider: FakeProvider) -> None:
    flow, sent = flow_for(provider), []

    def tell(text: str) -> None:
        sent.append(text)

    login = asyncio.ensure_future(browser_login(flow, opener=None, tell=tell, timeout=30))
    async with asyncio.timeout(10):
        while not sent:
            await asyncio.sleep(0.01)
    url = sent[0].split()[-1]
    query = {k: v[0] for k, v in parse_qs(urlsplit(url).query).items()}
    back = urlencode({"code": "CODE", "state": query["state"], "iss": "https://evil.example"})
    await send(urlsplit(query["redirect_uri"]).port or 0, f"/callback?{back}")
    with pytest.raises(ProtocolError, match="another issuer"):
        await login
    assert provider.posts == []


async def test_the_browser_gets_the_address_and_nothing_else(provider: FakeProvider) -> None:
    got: list[tuple[Any, ...]] = []
    told: list[str] = []

    def opener(*args: Any, **more: Any) -> None:
        got.append((args, more))
        urllib.request.urlopen(args[0], timeout=10).close()

    token = await browser_login(flow_for(provider), opener=opener, timeout=30, tell=told.append)
    assert token.access_token in provider.access
    ((args, more),) = got
    assert (len(args), more) == (1, {})
    assert args[0].startswith(f"{provider.base}/authorize?")
    assert args[0] in told[0].split()  # printed before it is opened


async def test_a_browser_that_fails_is_no_traceback(provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    broken: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", broken.append)

    def opener(url: str) -> None:
        raise ValueError("No closing quotation")  # what $BROWSER may lead to

    with pytest.raises(LoginRequired, match=r"Nobody signed in within 0\.1 seconds"):
        await browser_login(flow_for(provider), opener=opener, timeout=0.1, tell=quiet)
    open_browser(f"{provider.base}/authorize", opener)
    for thread in threading.enumerate():
        if thread.name == "browser":
            thread.join(timeout=10)
    assert broken == []


async def test_too_late_says_which_redirect_was_waited_for(provider: FakeProvider) -> None:
    for more in ({}, {"redirect_uri": f"http://localhost:{free_port()}/back"}):
        told: list[str] = []
        with pytest.raises(LoginRequired, match="--device or --paste") as caught:
            await browser_login(flow_for(provider, **more), opener=None, timeout=0.05, tell=told.append)
        (redirect,) = parse_qs(urlsplit(told[0].split()[-1]).query)["redirect_uri"]
        assert f"no answer came to {redirect}. " in str(caught.value)
        assert "error page usually wants exactly this redirect registered" in str(caught.value)
        assert redirect == more.get("redirect_uri", redirect)


async def test_a_person_has_the_time_that_was_said(provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def wait(server: CallbackServer, seconds: float) -> str:
        waited.append(seconds)
        raise TimeoutError

    monkeypatch.setattr(CallbackServer, "wait", wait)
    with pytest.raises(LoginRequired, match="within 300 seconds"):
        await browser_login(flow_for(provider), opener=None, tell=quiet)
    with pytest.raises(LoginRequired, match=r"within 12\.5 seconds"):
        await browser_login(flow_for(provider), opener=None, tell=quiet, timeout=12.5)
    assert waited == [300, 12.5]


async def test_a_redirect_before_anything_was_asked_is_refused(provider: FakeProvider) -> None:
    """The listener is there while the provider's metadata are on their way."""
    port = free_port()
    answers: list[str] = []
    broken: list[Any] = []

    async def slow(*args: Any, **more: Any) -> Any:
        if not answers:
            answers.append(await send(port, "/callback?code=x&state=y"))
        return await transport.send(*args, **more)

    asyncio.get_running_loop().set_exception_handler(lambda loop, context: broken.append(context))
    flow = OAuth2Flow(flow_for(provider, discover=True).config, send=slow)

    def opener(url: str) -> None:
        urllib.request.urlopen(url, timeout=10).close()

    assert (await browser_login(flow, port=port, opener=opener, timeout=30, tell=quiet)).access_token
    assert answers[0].startswith("HTTP/1.1 400")
    assert broken == []


# -- the redirect that is given whole


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("http://localhost:8085/callback", ("localhost", 8085, "/callback")),
        ("http://127.0.0.1:1/", ("127.0.0.1", 1, "/")),
        ("http://[::1]:65535/a/b-c_d~e.f/", ("[::1]", 65535, "/a/b-c_d~e.f/")),
        ("http://localhost:80/callback", ("localhost", 80, "/callback")),
    ],
)
def test_a_redirect_on_this_machine_is_taken_apart_and_put_together_again(uri: str, parts: tuple[Any, ...]) -> None:
    assert Redirect.parse(uri) == parts
    assert Redirect.parse(uri).uri == uri


BAD_REDIRECTS = [
    *("", "callback", "localhost:8085/callback", "//localhost:8085/callback", "https://localhost:8085/callback"),
    *("HTTP://localhost:8085/callback", "http://LOCALHOST:8085/callback", "http://localhost/callback"),
    *("http://localhost:8085", "http://localhost:/callback", "http://localhost:0/callback"),
    *("http://localhost:08085/callback", "http://localhost:65536/callback", "http://localhost:99999/callback"),
    *("http://localhost:8085/callback?x=1", "http://localhost:8085/callback?", "http://localhost:8085/callback#x"),
    *("http://user:hunter2@localhost:8085/callback", "http://hunter2@localhost:8085/callback"),
    *("http://0.0.0.0:8085/callback", "http://192.0.2.1:8085/callback", "http://auth.example.com:8085/callback"),
    *("http://localhost.evil.example:8085/callback", "http://127.0.0.1.evil.example:8085/callback"),
    *("http://evil.example\\@localhost:8085/callback", "http://localhost:8085\\callback"),
    *("http://[::1:8085/callback", "http://::1:8085/callback", "http://[::]:8085/callback", "http://["),
    *("http://localhost:8085//callback", "http://localhost:8085/a/../callback", "http://localhost:8085/./callback"),
    *("http://localhost:8085/call back", "http://localhost:8085/call%20back", "http://localhost:8085/ä"),
    *("http://localhost:8085/callback\n", " http://localhost:8085/callback", "http://localhost:８０85/callback"),
    *("javascript:alert(1)", "urn:ietf:wg:oauth:2.0:oob", "com.example.app:/callback"),
]


@pytest.mark.parametrize("uri", BAD_REDIRECTS)
def test_any_other_redirect_is_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(ConfigError, match="OAUTH_REDIRECT_URI is not usable") as caught:
        Redirect.parse(uri)
    assert "hunter2" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("path", ["/callback", "/", "/oauth/back/"])
async def test_a_whole_redirect_is_listened_to_and_sent_as_it_is(provider: FakeProvider, host: str, path: str) -> None:
    uri = f"http://{host}:{free_port()}{path}"
    opened: list[str] = []

    def opener(url: str) -> None:
        opened.append(url)
        urllib.request.urlopen(url, timeout=10).close()

    await browser_login(flow_for(provider, redirect_uri=uri), opener=opener, timeout=30, tell=quiet)
    assert parse_qs(urlsplit(opened[0]).query)["redirect_uri"] == [uri]
    assert provider.posts[-1]["redirect_uri"] == uri


async def test_a_busy_whole_redirect_is_fatal(provider: FakeProvider) -> None:
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        port = squatter.getsockname()[1]
        flow = flow_for(provider, redirect_uri=f"http://127.0.0.1:{port}/callback")
        with pytest.raises(ConfigError, match=f"port {port} "):
            await browser_login(flow, opener=None, timeout=0.1, tell=quiet)
    assert provider.requests == []


async def test_another_port_than_that_of_the_whole_redirect_is_a_mistake(provider: FakeProvider) -> None:
    uri = "http://localhost:8085/callback"
    flow = flow_for(provider, redirect_uri=uri)
    assert check_login(flow).uri == check_login(flow, 8085).uri == uri
    for port in (8086, 1, 80850):
        with pytest.raises(ConfigError, match=f"--port {port} .*OAUTH_REDIRECT_URI, 8085"):
            check_login(flow, port)
        with pytest.raises(ConfigError, match="OAUTH_REDIRECT_URI, 8085"):
            await paste_login(flow, port=port, reader=str, tell=quiet)
    assert check_login(flow_for(provider), 8086) == Redirect("127.0.0.1", 8086, "/callback")
    assert check_login(flow_for(provider, redirect_host="localhost")).uri == "http://localhost:0/callback"


@pytest.mark.parametrize("way", ["browser", "paste"])
async def test_an_unusable_redirect_stops_either_way_at_once(provider: FakeProvider, way: str) -> None:
    flow = flow_for(provider, redirect_uri="https://app.example.com/callback")
    with pytest.raises(ConfigError, match="OAUTH_REDIRECT_URI is not usable"):
        await (
            browser_login(flow, opener=None, timeout=0.1)
            if way == "browser"
            else paste_login(flow, reader=str, tell=quiet)
        )
    assert provider.requests == []


@pytest.mark.parametrize("way", ["browser", "paste"])
async def test_a_secret_that_will_be_wanted_is_asked_for_at_once(provider: FakeProvider, way: str) -> None:
    more: dict[str, Any] = {"secret_required": True, "client_secret": None, "console": "https://example.com/apps"}
    for revocation, device, secret in (("rfc7009", False, None), ("github", True, None), ("rfc7009", False, "")):
        more["client_secret"] = secret
        flow = flow_for(provider, revocation=revocation, **more)
        with pytest.raises(ConfigError, match="Missing required auth: OAUTH_CLIENT_SECRET") as caught:
            await (
                browser_login(flow, opener=None, timeout=0.1)
                if way == "browser"
                else paste_login(flow, reader=str, tell=quiet)
            )
        assert ("use --device" in str(caught.value), "https://example.com/apps" in str(caught.value)) == (device, True)
    assert provider.requests == []
    check_login(flow_for(provider, client_secret=None))  # a public client


# -- paste


async def paste(p: FakeProvider, pasted: Callable[[str], str], **more: Any) -> Any:
    """Sign in with what `pasted` makes of the address at which the browser ends."""
    told: list[str] = []

    def reader() -> str:
        return pasted(asked(p, told[0].split()[-1]))

    port = more.pop("port", 0)
    return await paste_login(flow_for(p, **more), port=port, reader=reader, tell=told.append)


@pytest.mark.parametrize(
    ("more", "redirect"),
    [
        ({}, "http://127.0.0.1:8085/callback"),
        ({"port": 9999}, "http://127.0.0.1:9999/callback"),
        ({"redirect_host": "localhost"}, "http://localhost:8085/callback"),
        ({"redirect_uri": "http://localhost:7777/back"}, "http://localhost:7777/back"),
        ({"redirect_uri": "http://localhost:7777/back", "port": 7777}, "http://localhost:7777/back"),
    ],
)
async def test_paste_the_whole_address(provider: FakeProvider, more: dict[str, Any], redirect: str) -> None:
    assert (await paste(provider, lambda back: f"  {back}#_=_ \n", **more)).access_token in provider.access
    assert provider.posts[-1]["redirect_uri"] == redirect


@pytest.mark.parametrize(
    "pasted",
    [
        *("", "\n", "http://[", "http://[?{query}", "{code}", "{query}", "?{query}", "code={code}", "\ud800"),
        *("<!doctype html>", "Sign in?", "http://127.0.0.1:8085/callback", "http://127.0.0.1:8085/callback?"),
        *("http://127.0.0.1:8085/callback#{query}", "http://127.0.0.1:8085/callback/?{query}", "/callback?{query}"),
        *(
            "http://evil.example/callback?{query}",
            "https://127.0.0.1:8085/callback?{query}",
            "http://localhost?{query}",
        ),
    ],
)
async def test_paste_of_anything_but_the_address_is_one_line(provider: FakeProvider, pasted: str) -> None:
    def instead(back: str) -> str:
        query = urlsplit(back).query
        return pasted.replace("{query}", query).replace("{code}", parse_qs(query)["code"][0])

    with pytest.raises(LoginRequired, match="begins with http://") as caught:
        await paste(provider, instead)
    assert len(str(caught.value).splitlines()) == 1
    assert provider.posts == []


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("state=", "state=x", "state_mismatch"),
        ("state=", "states=", "state_mismatch"),
        ("iss=", "iss=x", "iss_mismatch"),
        ("iss=", "isss=", "iss_mismatch"),
        ("code=", "error=access_denied&c=", "access_denied"),
        ("code=", "c=", "no_code"),
    ],
)
async def test_paste_checks_what_a_redirect_is_checked_for(
    provider: FakeProvider, old: str, new: str, code: str
) -> None:
    with pytest.raises(AuthError) as caught:
        await paste(provider, lambda back: back.replace(old, new))
    assert caught.value.code == code
    assert provider.posts == []


async def test_paste_without_a_terminal(provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    for stdin in (None, io.StringIO("http://127.0.0.1:8085/callback?code=x\n")):  # closed, or not a terminal
        monkeypatch.setattr("sys.stdin", stdin)
        with pytest.raises(ConfigError, match="--paste needs a terminal"):
            await paste_login(flow_for(provider), tell=quiet)
    assert provider.requests == []


async def test_a_reader_that_fails_is_heard_of(provider: FakeProvider) -> None:
    def reader() -> str:
        raise OSError("no terminal any more")

    with pytest.raises(OSError, match="no terminal any more"):
        await paste_login(flow_for(provider), reader=reader, tell=quiet)


# -- device


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.polls: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.polls.append(self.now)


async def device(p: FakeProvider, clock: Clock) -> Any:
    return await device_login(flow_for(p), sleep=clock.sleep, monotonic=lambda: clock.now, tell=lambda _: None)


async def test_device_waits_as_rfc_8628_says(provider: FakeProvider) -> None:
    provider.device_answers = [
        "authorization_pending",
        "authorization_pending",
        "slow_down",
        "authorization_pending",
    ]
    clock = Clock()
    assert (await device(provider, clock)).access_token
    assert clock.polls == [5, 10, 15, 25, 35]


async def test_device_backs_off_and_ends(provider: FakeProvider) -> None:
    clock = Clock()
    provider.interval = 60
    provider.device_answers = ["authorization_pending"] * 1000
    with pytest.raises(LoginRequired, match="expired"):
        await device(provider, clock)
    assert clock.now < 900


@pytest.mark.parametrize("code", ["access_denied", "authorization_declined", "expired_token", "bad_verification_code"])
async def test_device_stops_at_a_refusal(provider: FakeProvider, code: str) -> None:
    clock = Clock()
    provider.device_answers = [code, "authorization_pending"]
    with pytest.raises(LoginRequired, match=code):
        await device(provider, clock)
    assert clock.polls == [5]


async def test_device_stops_at_an_error_that_says_nothing(provider: FakeProvider) -> None:
    clock = Clock()
    answers: list[Reply] = []

    async def send(method: str, url: str, *more: Any, **options: Any) -> Reply:
        if not url.endswith("/token"):
            return await transport.send(method, url, *more, **options)
        answers.append(Reply(200, {"content-type": "application/json"}, b'{"error": "no code at all"}'))
        return answers[-1]

    with pytest.raises(ProtocolError) as caught:
        await device_login(flow_for(provider, send=send), sleep=clock.sleep, monotonic=lambda: clock.now, tell=quiet)
    assert (caught.value.code, len(answers)) == ("unknown_error", 1)


async def test_no_device_flow(provider: FakeProvider) -> None:
    with pytest.raises(ConfigError, match="no device sign-in"):
        await device_login(flow_for(provider, device_url=""))


DEVICE: dict[str, Any] = {
    "device_code": "dc",
    "user_code": "ABCD-EFGH",
    "verification_uri": "https://example.com/device",
    "interval": 5,
    "expires_in": 900,
}


def answer_once(p: FakeProvider, **more: Any) -> None:
    """Have the next request for a device code answered so. None leaves a field out."""
    body = {name: value for name, value in (DEVICE | more).items() if value is not None}
    p.devices["dc"] = []
    p.faults = [(200, {"Content-Type": "application/json"}, json.dumps(body).encode())]


@pytest.mark.parametrize(
    "address",
    [
        *("javascript:alert(1)", "file:///etc/passwd", "data:text/html,x", "--incognito", "http://evil.example/device"),
        *("https://good.example@evil.example/", "https://evil.example/\x1b[2J", "https://a b.example/", "example.com"),
        *('https://evil.example/"&calc&', "https://evil.example/\n", "ms-msdt:/id", "", "https://", "HTTPS:evil"),
    ],
)
@pytest.mark.parametrize("name", ["verification_uri", "verification_url"])
async def test_a1_no_odd_address_is_shown_for_a_device(provider: FakeProvider, name: str, address: str) -> None:
    told: list[str] = []
    answer_once(provider, **{"verification_uri": None, name: address})
    with pytest.raises(AuthError):
        await device_login(flow_for(provider), sleep=Clock().sleep, tell=told.append)
    assert told == []
    assert len(provider.posts) == 1


@pytest.mark.parametrize(
    "more",
    [
        {"device_code": None},
        {"device_code": 7},
        {"user_code": None},
        {"user_code": 1234},
        {"user_code": "\x1b\x07"},
        {"verification_uri": None},
        {"verification_uri": ["https://example.com"]},
    ],
)
async def test_an_incomplete_device_answer_is_not_shown(provider: FakeProvider, more: dict[str, Any]) -> None:
    told: list[str] = []
    answer_once(provider, **more)
    with pytest.raises(ProtocolError, match="incomplete device answer"):
        await device_login(flow_for(provider), sleep=Clock().sleep, tell=told.append)
    assert told == []


async def test_a_device_code_moves_no_cursor_and_warns_of_phishing(provider: FakeProvider) -> None:
    told: list[str] = []
    answer_once(provider, user_code="AB\x1b[2JCD" + "X" * 100)
    clock = Clock()
    await device_login(flow_for(provider), sleep=clock.sleep, monotonic=lambda: clock.now, tell=told.append)
    assert told[0].isprintable()
    assert "https://example.com/device and enter the code AB[2JCD" in told[0]
    assert len(told[0]) < 150
    assert "only if you started this sign-in yourself" in told[1]
    assert provider.posts[0]["scope"] == "read write"
    assert provider.posts[1]["device_code"] == "dc"


async def test_google_calls_the_address_of_a_device_otherwise(provider: FakeProvider) -> None:
    told: list[str] = []
    answer_once(provider, verification_uri=None, verification_url="https://www.google.com/device")
    await device_login(flow_for(provider), sleep=Clock().sleep, tell=told.append)
    assert "open https://www.google.com/device and" in told[0]


@pytest.mark.parametrize(
    ("interval", "waited"), [(1, 1), (7, 7), ("7", 7), (None, 5), (0, 5), (-3, 5), ("soon", 5), (float("inf"), 5)]
)
async def test_a_device_asks_no_oftener_than_it_may(provider: FakeProvider, interval: Any, waited: float) -> None:
    answer_once(provider, interval=interval)
    clock = Clock()
    await device_login(flow_for(provider), sleep=clock.sleep, monotonic=lambda: clock.now, tell=quiet)
    assert clock.polls == [waited]


@pytest.mark.parametrize(("interval", "lasts", "polls"), [(5, 20, 3), (5, 4, 0), (60, None, 14), (60, 0, 14)])
async def test_a_device_stops_asking_when_its_code_ends(
    provider: FakeProvider, interval: int, lasts: Any, polls: int
) -> None:
    answer_once(provider, interval=interval, expires_in=lasts)
    provider.devices["dc"] = ["authorization_pending"] * 1000
    clock = Clock()
    with pytest.raises(LoginRequired, match="expired before anybody entered it"):
        await device_login(flow_for(provider), sleep=clock.sleep, monotonic=lambda: clock.now, tell=quiet)
    assert len(clock.polls) == polls


async def test_a_device_waits_longer_for_a_provider_that_is_down(provider: FakeProvider) -> None:
    answer_once(provider)
    provider.faults += [(503, {}, b"")] * 5
    clock = Clock()
    assert await device_login(flow_for(provider), sleep=clock.sleep, monotonic=lambda: clock.now, tell=quiet)
    assert clock.polls == [5, 15, 35, 75, 135, 195]  # doubled each time, up to a minute


async def test_a_device_ends_at_an_answer_that_breaks_the_protocol(provider: FakeProvider) -> None:
    answer_once(provider)
    provider.faults.append((200, {"Content-Type": "application/json"}, b'{"token_type": "bearer"}'))
    clock = Clock()
    with pytest.raises(ProtocolError, match="no usable access token"):
        await device_login(flow_for(provider), sleep=clock.sleep, monotonic=lambda: clock.now, tell=quiet)
    assert clock.polls == [5]

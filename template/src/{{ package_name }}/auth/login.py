"""The ways to sign in: the browser on this machine, a code on another device, or a pasted redirect."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import webbrowser
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress

from .callback import CallbackServer, Redirect
from .errors import ConfigError, LoginRequired, ProtocolError, TransientAuthError
from .oauth2 import AuthorizationRequest, OAuth2Flow
from .responses import OAuth2Token, parse_success, printable, seconds
from .urls import check_url

PASTE_PORT = 8085  # where nothing needs to listen: the address only has to be copied from the browser


def say(text: str) -> None:
    """Print for the person. On stderr: stdout belongs to the protocol."""
    print(text, file=sys.stderr, flush=True)


def open_browser(url: str, opener: Callable[[str], object]) -> None:
    """Open a URL that passes `check_url`, in a daemon thread: some browsers block."""
    check_url(url, "authorization URL")

    def run() -> None:
        with suppress(Exception):  # the address is on the screen, too
            opener(url)

    threading.Thread(target=run, name="browser", daemon=True).start()


def check_login(flow: OAuth2Flow, port: int = 0) -> Redirect:
    """Find out what the provider would only complain of after the consent. Return the redirect, without I/O.

    `port` 0 leaves the port to the configured redirect, or to the system. Raises ConfigError without a secret that the
    provider wants, and for a redirect that is unusable or names another port.
    """
    config = flow.config
    if config.secret_required and not config.client_secret:
        message = "Missing required auth: OAUTH_CLIENT_SECRET. Set OAUTH_CLIENT_SECRET environment variable"
        device = " or use --device" if config.revocation == "github" else ""
        raise ConfigError(f"{message}{device}. {config.registration}", code="no_client_secret")
    if config.redirect_uri is None:
        return Redirect(config.redirect_host, port)
    redirect = Redirect.parse(config.redirect_uri)
    if port not in (0, redirect.port):
        message = f"--port {port} is not the port of OAUTH_REDIRECT_URI, {redirect.port}. Leave --port away."
        raise ConfigError(message, code="bad_redirect_uri")
    return redirect


async def browser_login(
    flow: OAuth2Flow,
    *,
    port: int = 0,
    listen: str | None = None,
    opener: Callable[[str], object] | None = webbrowser.open,
    timeout: float = 300.0,  # noqa: ASYNC109 - seconds the person has
    tell: Callable[[str], None] = say,
) -> OAuth2Token:
    """Sign in through the system browser, with a redirect to a loopback port (RFC 8252).

    Where `flow.config.redirect_uri` is given, its host, port and path are listened to. Otherwise `port` 0 takes any free
    one. `listen` is for containers, where the published port has to be bound on all addresses. `opener` None opens
    nothing. Raises LoginRequired when declined or too late, or AuthError.
    """
    host, port, path = check_login(flow, port)
    started: list[AuthorizationRequest] = []

    def accept(query: str) -> str:
        if not started:  # while the provider's metadata is on its way
            raise ProtocolError("Nothing was asked yet.", code="state_mismatch")
        return flow.read_redirect(started[0], query)

    async with CallbackServer(accept, host=host, port=port, path=path, listen=listen) as server:
        request = await flow.begin(server.redirect_uri)
        started.append(request)
        tell(f"Open this address to sign in to {flow.config.name}:\n\n  {request.url}\n")
        if opener is not None:
            open_browser(request.url, opener)
        try:
            code = await server.wait(timeout)
        except TimeoutError:
            message = (
                f"Nobody signed in within {timeout:g} seconds: no answer came to {server.redirect_uri}. A provider that "
                "shows an error page usually wants exactly this redirect registered; --port or OAUTH_REDIRECT_URI keeps "
                "it the same each time. Without a browser here: --device or --paste."
            )
            raise LoginRequired(message, code="timeout") from None
    return await flow.exchange_code(code, request.verifier, request.redirect_uri)


async def paste_login(
    flow: OAuth2Flow, *, port: int = 0, reader: Callable[[], str] | None = None, tell: Callable[[str], None] = say
) -> OAuth2Token:
    """Sign in with a browser elsewhere: its last address, which fails to load, is pasted here.

    Checked exactly as a redirect is. Raises ConfigError without a terminal to paste into, LoginRequired for anything
    but that address.
    """
    redirect = check_login(flow, port)
    if not redirect.port:
        redirect = redirect._replace(port=PASTE_PORT)
    if reader is None and not (sys.stdin and sys.stdin.isatty()):
        message = "--paste needs a terminal to paste into. Use --device, or set ACCESS_TOKEN."
        raise ConfigError(message, code="no_terminal")
    request = await flow.begin(redirect.uri)
    tell(f"Open this address in any browser and sign in to {flow.config.name}:\n\n  {request.url}\n")
    tell(f"It then fails to load an address that begins with {redirect.uri}. Copy that one and paste it here:")
    pasted = await _in_a_daemon_thread(reader or _typed)
    address, _, rest = pasted.strip().partition("?")
    query, _, _ = rest.partition("#")
    if address != redirect.uri or not query:
        message = f"What was pasted is not the whole address: it begins with {redirect.uri}?"
        raise LoginRequired(message, code="bad_paste")
    code = flow.read_redirect(request, query)
    return await flow.exchange_code(code, request.verifier, request.redirect_uri)


async def device_login(
    flow: OAuth2Flow,
    *,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    monotonic: Callable[[], float] = time.monotonic,
    tell: Callable[[str], None] = say,
) -> OAuth2Token:
    """Sign in on another device with a short code (RFC 8628). The address is shown, never opened.

    Raises ConfigError if the provider has no device flow, LoginRequired when declined or too late.
    """
    name, url = flow.config.name, (await flow.endpoints()).device_url
    if not url:
        raise ConfigError(f"{name} has no device sign-in. Use the browser, or --paste.", code="no_device_flow")
    began = monotonic()
    reply = await flow.post(url, {"scope": " ".join(flow.config.scopes)})
    data = parse_success(reply, name, "the device sign-in")
    device_code, user_code = data.get("device_code"), printable(data.get("user_code"), 40)
    address = data.get("verification_uri") or data.get("verification_url")  # Google says `url`
    if not isinstance(device_code, str) or not user_code or not isinstance(address, str):
        raise ProtocolError(f"{name} sent an incomplete device answer.", code="bad_device_answer")
    check_url(address, "verification address")
    tell(f"To sign in to {name} for this program, open {address} and enter the code {user_code}")
    tell("Enter it only if you started this sign-in yourself just now.")  # stops device-code phishing
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": device_code}
    interval, end = seconds(data.get("interval")) or 5, began + (seconds(data.get("expires_in")) or 900)
    while monotonic() + interval < end:
        await sleep(interval)
        try:
            return await flow.token_request(form, "the device sign-in")
        except TransientAuthError:
            interval = min(interval * 2, 60)
        except ProtocolError as error:
            if error.code == "slow_down":
                interval += 5  # for good (section 3.5)
            elif error.code != "authorization_pending":
                raise
    raise LoginRequired("The device code expired before anybody entered it.", code="expired_token")


def _typed() -> str:
    """A line from the terminal. Not `sys.stdin.readline`: its lock, still held after Ctrl-C, is fatal at exit."""
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as terminal:
        return terminal.readline().decode(errors="replace")


async def _in_a_daemon_thread(call: Callable[[], str]) -> str:
    """Wait for `call` without keeping the program from ending: Ctrl-C counts although nobody answers."""
    future: Future[str] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(call())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, name="paste", daemon=True).start()
    return await asyncio.wrap_future(future)

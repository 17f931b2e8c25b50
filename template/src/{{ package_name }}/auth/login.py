"""The ways to sign in: the browser on this machine, a code on another device, or a pasted redirect."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import webbrowser
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from .callback import PATH, CallbackServer
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
    threading.Thread(target=opener, args=(url,), name="browser", daemon=True).start()


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

    `port` 0 takes any free one. `listen` is for containers, where the published port has to be bound on all addresses.
    `opener` None opens nothing. Raises LoginRequired when declined or too late, or AuthError.
    """
    _require_secret(flow)
    started: list[AuthorizationRequest] = []

    def accept(query: str) -> str:
        return flow.read_redirect(started[0], query)

    async with CallbackServer(accept, host=flow.config.redirect_host, port=port, listen=listen) as server:
        request = await flow.begin(server.redirect_uri)
        started.append(request)
        tell(f"Open this address to sign in to {flow.config.name}:\n\n  {request.url}\n")
        if opener is not None:
            open_browser(request.url, opener)
        try:
            code = await server.wait(timeout)
        except TimeoutError:
            message = f"Nobody signed in within {timeout:.0f} seconds. Without a browser: --device or --paste."
            raise LoginRequired(message, code="timeout") from None
    return await flow.exchange_code(code, request.verifier, request.redirect_uri)


async def paste_login(
    flow: OAuth2Flow, *, port: int = 0, reader: Callable[[], str] | None = None, tell: Callable[[str], None] = say
) -> OAuth2Token:
    """Sign in with a browser elsewhere: its last address, which fails to load, is pasted here.

    Checked exactly as a redirect is. Raises ConfigError without a terminal to paste into.
    """
    _require_secret(flow)
    if reader is None and not sys.stdin.isatty():
        message = "--paste needs a terminal to paste into. Use --device, or set ACCESS_TOKEN."
        raise ConfigError(message, code="no_terminal")
    request = await flow.begin(f"http://{flow.config.redirect_host}:{port or PASTE_PORT}{PATH}")
    tell(f"Open this address in any browser and sign in to {flow.config.name}:\n\n  {request.url}\n")
    tell(f"It then fails to load an address that begins with {request.redirect_uri}. Copy that one and paste it here:")
    pasted = urlsplit((await asyncio.to_thread(reader or sys.stdin.readline)).strip())
    code = flow.read_redirect(request, pasted.query)
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


def _require_secret(flow: OAuth2Flow) -> None:
    """Stop before the browser opens where the provider will want a secret afterwards."""
    if flow.config.secret_required and not flow.config.client_secret:
        message = "Missing required auth: OAUTH_CLIENT_SECRET. Set OAUTH_CLIENT_SECRET environment variable"
        device = " or use --device" if flow.config.revocation == "github" else ""
        raise ConfigError(f"{message}{device}.", code="no_client_secret")

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
from .responses import OAuth2Token, error_code, error_for, parse_object, parse_token, printable, raise_for_status
from .urls import check_url

PASTE_PORT = 8085  # where nothing needs to listen: the address only has to be copied from the browser
_DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


def say(text: str) -> None:
    """Print for the person. On stderr: stdout belongs to the protocol."""
    print(text, file=sys.stderr, flush=True)


def open_browser(url: str, opener: Callable[[str], object]) -> None:
    """Open an authorization URL that passed `check_url`, in a daemon thread: some browsers block."""
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
        request = await _begin(flow, server.redirect_uri)
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
    flow: OAuth2Flow,
    *,
    port: int = 0,
    reader: Callable[[], str] | None = None,
    tell: Callable[[str], None] = say,
) -> OAuth2Token:
    """Sign in with a browser elsewhere: its last address, which fails to load, is pasted here.

    Checked exactly as a redirect is. Raises ConfigError without a terminal to paste into.
    """
    _require_secret(flow)
    if reader is None and not sys.stdin.isatty():
        message = "--paste needs a terminal to paste into. Use --device, or set ACCESS_TOKEN."
        raise ConfigError(message, code="no_terminal")
    request = await _begin(flow, f"http://{flow.config.redirect_host}:{port or PASTE_PORT}{PATH}")
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
    data = parse_object(reply, name)
    if reply.status < 500 and (code := error_code(data)):
        raise error_for(code, name, "the device sign-in")
    raise_for_status(reply, name)
    device_code, user_code = data.get("device_code"), printable(data.get("user_code"), 40)
    address = data.get("verification_uri") or data.get("verification_url")  # Google says `url`
    if not isinstance(device_code, str) or not user_code or not isinstance(address, str):
        raise ProtocolError(f"{name} sent an incomplete device answer.", code="bad_device_answer")
    check_url(address, "verification address")
    tell(f"To sign in to {name} for this program, open {address} and enter the code {user_code}")
    tell("Enter it only if you started this sign-in yourself just now.")  # stops device-code phishing
    interval, end = _seconds(data.get("interval"), 5), began + _seconds(data.get("expires_in"), 900)
    while monotonic() + interval < end:
        await sleep(interval)
        try:
            token, interval = await _poll(flow, device_code, interval)
        except TransientAuthError:
            interval = min(interval * 2, 60)
        else:
            if token:
                return token
    raise LoginRequired("The device code expired before anybody entered it.", code="expired_token")


async def _poll(flow: OAuth2Flow, device_code: str, interval: float) -> tuple[OAuth2Token | None, float]:
    """Ask once: the token, or None and the seconds to wait. `slow_down` adds 5 for good (section 3.5)."""
    name, sent_at = flow.config.name, flow.clock()
    form = {"grant_type": _DEVICE_GRANT, "device_code": device_code}
    reply = await flow.post((await flow.endpoints()).token_url, form)
    if reply.status != 429 and reply.status < 500:
        data = parse_object(reply, name)
        match error_code(data):
            case "slow_down":
                return None, max(interval + 5, _seconds(data.get("interval"), 0))
            case "authorization_pending":
                return None, interval
    scopes = flow.config.scopes
    return parse_token(reply, name, what="the device sign-in", requested=scopes, sent_at=sent_at), interval


async def _begin(flow: OAuth2Flow, redirect_uri: str) -> AuthorizationRequest:
    request = await flow.begin(redirect_uri)
    check_url(request.url, "authorization URL")
    return request


def _require_secret(flow: OAuth2Flow) -> None:
    """Stop before the browser opens where the provider will want a secret afterwards."""
    if flow.config.secret_required and not flow.config.client_secret:
        message = "Missing required auth: OAUTH_CLIENT_SECRET. Set OAUTH_CLIENT_SECRET environment variable"
        device = " or use --device" if flow.config.revocation == "github" else ""
        raise ConfigError(f"{message}{device}.", code="no_client_secret")


def _seconds(value: object, default: float) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return default
    return min(number, 1800.0) if number > 0 else default

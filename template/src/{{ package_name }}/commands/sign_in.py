"""`login`, `status` and `logout`: the person's side of the sign-in to the provider."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, TypeVar

from .. import signin
from ..answers import COMMAND
from ..errors import ServerError, UsageError
from ..http_environment import check_http_environment
from ..keychain import KeychainError
from ..settings import port_number

if TYPE_CHECKING:
    from ..auth.oauth2 import OAuth2Flow
    from ..auth.records import TokenRecord
    from ..auth.responses import OAuth2Token
    from ..auth.storage import FileStore

T = TypeVar("T")


def add_commands(commands: Any) -> None:
    """Add the three commands. Each sets `run`, a function of the parsed arguments that returns the exit code."""
    login = commands.add_parser("login", help="sign in to the provider, once")
    ways = login.add_mutually_exclusive_group()
    ways.add_argument("--device", action="store_true", help="sign in with a short code on another device")
    ways.add_argument("--paste", action="store_true", help="open the address elsewhere and paste the answer here")
    ways.add_argument("--no-browser", action="store_true", help="show the address, but open no browser")
    login.add_argument("--port", default="0", help="fixed port for the redirect (default: any free one)")
    login.add_argument("--listen", metavar="ADDRESS", help="in a container: 0.0.0.0 (publish on 127.0.0.1 only)")
    login.add_argument("--timeout", default="300", metavar="SECONDS", help="how long to wait for the browser (300)")
    login.add_argument("--insecure-plaintext-storage", action="store_true", help="store the tokens unencrypted")
    login.set_defaults(run=_login)
    status = commands.add_parser("status", help="tell who is signed in; exit code 1 if nobody is")
    status.set_defaults(run=_status)
    logout = commands.add_parser("logout", help="revoke the sign-in where possible, and delete it here")
    logout.set_defaults(run=_logout)


def _login(args: argparse.Namespace) -> int:
    import asyncio

    from ..auth.errors import ConfigError, LoginRequired
    from ..auth.login import say
    from ..auth.token_manager import key_of

    # Whatever can be found out is found out before the browser opens.
    check_http_environment()
    flow = signin.flow()
    signing_in = _way(args, flow)
    if any(signin.given()):
        message = "ACCESS_TOKEN or REFRESH_TOKEN is set: it is the sign-in. Unset it to use login."
        raise ConfigError(message, code="given_token")
    plaintext = args.insecure_plaintext_storage
    store = _checked_store(flow, plaintext)
    try:
        record = asyncio.run(_sign_in(flow, signing_in))
    except KeyboardInterrupt:
        say("Sign-in cancelled.")
        return 130
    except LoginRequired as error:
        raise LoginRequired(f"{error} Run: {COMMAND} login", code=error.code) from None
    key = key_of(flow)
    with store.lock(key):
        store.save(key, record)
    if plaintext:
        say("Warning: the tokens are stored in PLAIN TEXT. Whoever reads the file can use them.")
    for line in _outcome(flow, record):
        say(line)
    return 0


def _way(args: argparse.Namespace, flow: OAuth2Flow) -> Callable[[], Any]:
    """The way to sign in that the arguments ask for, ready to be gone.

    Raises:
        UsageError: an argument, the redirect or the client's secret cannot work.
    """
    import webbrowser

    from ..auth.login import browser_login, check_login, device_login, paste_login

    port = _read("--port", args.port, port_number)
    timeout = _read("--timeout", args.timeout, _seconds)
    listen = None if args.listen is None else _read("--listen", args.listen, _address)
    if args.device:
        return lambda: device_login(flow)
    with signin.naming_the_keyring():
        check_login(flow, port)
    if args.paste:
        return lambda: paste_login(flow, port=port)
    opener = None if args.no_browser else webbrowser.open
    return lambda: browser_login(flow, port=port, listen=listen, opener=opener, timeout=timeout)


def _checked_store(flow: OAuth2Flow, plaintext: bool) -> FileStore:
    """The store, after a look at its directory and at the key, which is made where there is none.

    Raises:
        UsageError: the directory is unsafe, or there is no place for a key.
    """
    from ..auth.errors import ConfigError
    from ..auth.token_manager import key_of

    store = signin.store(plaintext=plaintext)
    with store.lock(key_of(flow)):
        if plaintext:
            return store
        try:
            signin.cipher(create=True)
        except KeychainError as error:
            raise ConfigError(
                f"There is no key to encrypt the sign-in with. {error} Unlock it if it is locked, or set TOKEN_KEY (make "
                "one with: openssl rand -base64 32), or set ACCESS_TOKEN to keep a token in memory only, or accept "
                "--insecure-plaintext-storage.",
                code="no_token_key",
            ) from None
    return store


async def _sign_in(flow: OAuth2Flow, signing_in: Callable[[], Any]) -> TokenRecord:
    from ..auth.errors import AuthError
    from ..auth.records import TokenRecord

    token: OAuth2Token = await signing_in()
    try:
        account = await flow.account(token)
    except AuthError:  # a nicety: the sign-in is good without it
        account = ""
    at = await flow.endpoints()  # where alone the tokens may go back
    return TokenRecord(
        token.access_token,
        token.refresh_token,
        expires_at=token.expires_at,
        obtained_at=flow.clock(),
        scopes=token.scopes,
        account=account,
        token_url=at.token_url,
        revocation_url=at.revocation_url,
        token_auth=at.token_endpoint_auth_method,
        revocation_auth=at.revocation_endpoint_auth_method or at.token_endpoint_auth_method,
        userinfo_url=at.userinfo_url,
    )


def _outcome(flow: OAuth2Flow, record: TokenRecord) -> list[str]:
    """What to tell about a new sign-in."""
    lines = []
    # Google answers `email` with https://www.googleapis.com/auth/userinfo.email; nobody repeats `offline_access`.
    granted = {*record.scopes, *(scope.rpartition("/userinfo.")[2] for scope in record.scopes), "offline_access"}
    missing = set(flow.config.scopes) - granted
    if record.scopes and missing:
        lines.append(f"Note: not granted as asked: {' '.join(sorted(missing))}")
    account = f" as {record.account}" if record.account else ""
    lines.append(f"Signed in to {flow.config.name}{account}.")
    if record.expires_at is None:
        when = "The provider does not say when the token expires"
        again = "once the API refuses it"
    else:
        when = f"The token expires in {_duration(record.expires_at - record.obtained_at)}"
        again = "then"
    if not record.refresh_token:
        lines.append(f"{when}, and no refresh token came: sign in again {again}.")
    elif record.expires_at is not None:
        lines.append(f"{when}, and is renewed before that.")
    return lines


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds > 1.9 * size:
            return f"{round(seconds / size)} {unit}"
    return f"{round(seconds)} seconds"


def _status(args: argparse.Namespace) -> int:
    state = signin.manager().status()
    left = state["expires_in"]
    rows = {
        "provider": state["provider"],
        "signed in": "yes" if state["signed_in"] else f"no. Run: {COMMAND} login",
        "account": state["account"] or "unknown",
        "scopes": " ".join(state["scopes"]) or "none named",
        "expires in": "unknown" if left is None else f"{left} seconds" if left > 0 else "expired",
        "refreshable": "yes" if state["refreshable"] else "no",
        "stored in": state["stored_in"],
        "last error": f"{state['last_error'] or 'none'} {state['problem']}".strip(),
    }
    for name, value in rows.items():
        print(f"{name + ':':13}{value}")
    return 0 if state["signed_in"] else 1


def _logout(args: argparse.Namespace) -> int:
    import asyncio

    from ..auth.login import say
    from ..auth.responses import OAuth2Token
    from ..auth.token_manager import key_of

    flow = signin.flow()
    store = signin.store()
    key = key_of(flow)
    revoked = False
    with store.lock(key):
        try:
            if record := store.load(key):
                check_http_environment()
                token = OAuth2Token(record.access_token, record.refresh_token)
                revoked = asyncio.run(flow.revoke(token, record.revocation_url, record.revocation_auth))
        except ServerError as error:
            reason = getattr(error, "code", "") or error
            say(f"Could not revoke at {flow.config.name} ({reason}); deleting it here all the same.")
        finally:
            deleted = store.delete(key)
    if not deleted:
        say("Nobody was signed in.")
    else:
        where = f"at {flow.config.name} and here" if revoked else f"here; {flow.config.name} was not told"
        say(f"Signed out {where}.")
    if any(signin.given()):
        say("ACCESS_TOKEN or REFRESH_TOKEN is still set and is used as the sign-in: unset it.")
    return 0


def _read(option: str, text: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(f"{option} {error}") from None


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86400:
        raise ValueError("is not a time to wait: seconds, at most 86400 (a day).")
    return seconds


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise ValueError("is not an address to listen on: write 0.0.0.0 or ::, as numbers.") from None

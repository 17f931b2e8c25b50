"""`login`, `status` and `logout`: the person's side of the sign-in to the provider."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from .. import signin
from ..answers import COMMAND
from ..keychain import KeychainError

if TYPE_CHECKING:
    from ..auth.oauth2 import OAuth2Flow
    from ..auth.records import TokenRecord


def add_commands(commands: Any) -> None:
    """Add the three commands. Each sets `run`, a function of the parsed arguments that returns the exit code."""
    login = commands.add_parser("login", help="sign in to the provider, once")
    ways = login.add_mutually_exclusive_group()
    ways.add_argument("--device", action="store_true", help="sign in with a short code on another device")
    ways.add_argument("--paste", action="store_true", help="open the address elsewhere and paste the answer here")
    ways.add_argument("--no-browser", action="store_true", help="show the address, but open no browser")
    login.add_argument("--port", type=int, default=0, help="fixed port for the redirect (default: any free one)")
    login.add_argument("--listen", metavar="ADDRESS", help="in a container: 0.0.0.0 (publish on 127.0.0.1 only)")
    login.add_argument("--timeout", type=float, default=300, metavar="SECONDS", help="how long to wait (default: 300)")
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

    flow, plaintext = signin.flow(), args.insecure_plaintext_storage
    if any(signin.given()):
        message = "ACCESS_TOKEN or REFRESH_TOKEN is set: it is the sign-in. Unset it to use login."
        raise ConfigError(message, code="given_token")
    store, key = signin.store(plaintext=plaintext), key_of(flow)
    with store.lock(
        key
    ):  # an unsafe or unwritable directory is found out before the browser opens; so is a missing key
        try:
            plaintext or signin.cipher(create=True)
        except KeychainError as error:
            raise ConfigError(
                f"There is no key to encrypt the sign-in with. {error} Unlock it if it is locked, or set TOKEN_KEY (make "
                "one with: openssl rand -base64 32), or set ACCESS_TOKEN to keep a token in memory only, or accept "
                "--insecure-plaintext-storage.",
                code="no_token_key",
            ) from None
    try:
        record = asyncio.run(_sign_in(args, flow))
    except KeyboardInterrupt:
        say("Sign-in cancelled.")
        return 130
    except LoginRequired as error:
        raise LoginRequired(f"{error} Run: {COMMAND} login", code=error.code) from None
    with store.lock(key):
        store.save(key, record)
    if plaintext:
        say("Warning: the tokens are stored in PLAIN TEXT. Whoever reads the file can use them.")
    # Google answers `email` with https://www.googleapis.com/auth/userinfo.email; nobody repeats `offline_access`.
    granted = {*record.scopes, *(scope.rpartition("/userinfo.")[2] for scope in record.scopes), "offline_access"}
    if record.scopes and (missing := set(flow.config.scopes) - granted):
        say(f"Note: not granted as asked: {' '.join(sorted(missing))}")
    say(f"Signed in to {flow.config.name}{f' as {record.account}' if record.account else ''}.")
    return 0


async def _sign_in(args: argparse.Namespace, flow: OAuth2Flow) -> TokenRecord:
    import webbrowser

    from ..auth.errors import AuthError
    from ..auth.login import browser_login, device_login, paste_login
    from ..auth.records import TokenRecord

    if args.device:
        token = await device_login(flow)
    elif args.paste:
        token = await paste_login(flow, port=args.port)
    else:
        opener = None if args.no_browser else webbrowser.open
        token = await browser_login(flow, port=args.port, listen=args.listen, opener=opener, timeout=args.timeout)
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
        userinfo_url=at.userinfo_url,
    )


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

    from ..auth.errors import AuthError
    from ..auth.login import say
    from ..auth.responses import OAuth2Token
    from ..auth.token_manager import key_of

    flow, store = signin.flow(), signin.store()
    key = key_of(flow)
    with store.lock(key):
        revoked, record = False, None
        try:
            if record := store.load(key):
                token = OAuth2Token(record.access_token, record.refresh_token)
                revoked = asyncio.run(flow.revoke(token, record.revocation_url))
        except AuthError as error:
            say(f"Could not revoke at {flow.config.name} ({error.code}); deleting it here all the same.")
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

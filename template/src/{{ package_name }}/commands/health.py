"""`health`: asks a running server, for scripts and for a container's health check.

Standard library only: it runs every few seconds.
"""

from __future__ import annotations

import json
import re
import sys
from http.client import HTTPException
from typing import Any
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector

from ..errors import UsageError
from ..settings import Settings

TIMEOUT_SECONDS = 5.0


def own_url(settings: Settings) -> str:
    """Where a server with these settings answers this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - compared, not bound
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def check(url: str, *, alive_only: bool, without_sign_in: bool = False) -> int:
    """Print one line and return 0 where the server at `url` is ready (or, with `alive_only`, alive), else 1.

    With `without_sign_in` it may lack a sign-in: a container that only waits for a person must not be replaced.

    Raises:
        UsageError: `url` is no address.
    """
    # Without user and password; what is wrong is said without it, since they may be in it.
    address = re.match(r"(https?://(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(:[0-9]+)?)(/|$)", url)
    if not address:
        raise UsageError("--url is not an address. Write http://127.0.0.1:8000.")
    base = address[1]
    status, body = _get(f"{base}/health")
    if status != 200 or body.get("status") != "healthy":
        print(f"not alive: {_why(status, body)}", file=sys.stderr)
        return 1
    if alive_only:
        print("alive")
        return 0
    status, body = _get(f"{base}/ready")
    if status == 200:
        print("ready")
        return 0
    reasons = body.get("reasons")
    person = isinstance(reasons, list) and all(str(it).startswith("sign-in: ") for it in reasons)
    if without_sign_in and person and reasons != ["sign-in: unreadable"]:
        print("ready, but for a sign-in")
        return 0
    why = "; ".join(map(str, reasons)) if isinstance(reasons, list) else _why(status, body)
    # Whoever answered: their words are not to steer a terminal.
    print(f"alive, not ready: {''.join(filter(str.isprintable, why[:1000]))}", file=sys.stderr)
    return 1


def _why(status: int, body: dict[str, Any]) -> str:
    return f"it answered {status}" if status else str(body["error"])


def _get(url: str) -> tuple[int, dict[str, Any]]:
    """Status and JSON body; status 0 and an `error` where there was no answer."""
    # No proxy and no redirect: the question is about this address, as seen from here.
    opener = OpenerDirector()
    opener.add_handler(HTTPHandler())
    opener.add_handler(HTTPSHandler())
    try:
        with opener.open(url, timeout=TIMEOUT_SECONDS) as response:
            return response.status, _decode(response.read(65536))
    except (OSError, HTTPException, ValueError, OverflowError) as error:
        cause = getattr(error, "reason", error)  # urllib wraps what the socket said
        return 0, {"error": f"the server did not answer ({getattr(cause, 'strerror', None) or type(cause).__name__})"}


def _decode(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}

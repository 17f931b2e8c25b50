"""The page a browser lands on after the sign-in. Constant: nothing that was received is ever shown (no XSS)."""

from __future__ import annotations

import base64
import hashlib
from typing import NamedTuple

_STYLE = """
:root { color-scheme: light dark }
body { font: 17px/1.5 system-ui, sans-serif; margin: 18vh auto 0; max-width: 36rem; color: #1c2128; background: #fff }
main { border-left: 4px solid #1a7f37; margin: 0 1rem; padding: .2rem 1.5rem }
main.stopped { border-color: #b35900 }
h1 { font-size: 1.5rem; margin: 0 0 .5rem }
@media (prefers-color-scheme: dark) { body { color: #e6edf3; background: #14181d } }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = f"""\
Content-Type: text/html; charset=utf-8
Content-Security-Policy: default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; \
frame-ancestors 'none'
X-Content-Type-Options: nosniff
X-Frame-Options: DENY
Referrer-Policy: no-referrer
Cache-Control: no-store
Connection: close
"""


class Page(NamedTuple):
    """What the person reads, and what the browser is told."""

    status: str
    kind: str
    title: str
    advice: str
    afterwards: str = "You can close this window."

    def response(self) -> bytes:
        """The whole HTTP response."""
        body = f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{self.title}</title><meta name="viewport" content="width=device-width">
<style>{_STYLE}</style>
<main class="{self.kind}"><h1>{self.title}</h1><p>{self.advice}<p><small>{self.afterwards}</small></main></html>
"""
        head = f"HTTP/1.1 {self.status}\n{_HEADERS}Content-Length: {len(body)}\n\n"
        return (head.replace("\n", "\r\n") + body).encode("ascii")


RECEIVED = Page("200 OK", "received", "Sign-in received", "Go back to the terminal: it says whether it worked.")
STOPPED = Page("200 OK", "stopped", "Sign-in not completed", "Go back to the terminal: it says why, and what to do.")
REFUSED = Page(
    "400 Bad Request",
    "stopped",
    "Not a sign-in answer",
    "If you are signing in, open the address that the terminal shows.",
)
TOO_LARGE = Page(
    "431 Request Header Fields Too Large",
    "stopped",
    "Too many cookies",
    "Other programs on this computer left more of them here than can be read. In your browser, clear this site's "
    "cookies, then reload this page.",
    "The terminal is still waiting.",
)

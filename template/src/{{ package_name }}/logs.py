"""Logging to stderr, with credentials blotted out.

stdout belongs to the protocol. The second belt (nothing logs a credential in the first place) is for what libraries
and tools log on their own: a URL with a key in it, an exception that quotes a header.
"""

from __future__ import annotations

import json
import logging
import sys
from base64 import b64encode
from urllib.parse import quote, quote_plus

MIN_LENGTH = 6  # a shorter value would blot out plain words, and is no secret
_MAX_HIDDEN = 1000  # rotated secrets stay hidden; beyond, those that were used longest ago are forgotten

_hidden: dict[str, set[str]] = {}  # by value: the forms in which it may appear
_longest_first: list[str] = []  # else a value that is part of another would leave the rest of it in sight


def configure(level: str) -> None:
    """Send the log to stderr from `level` on (DEBUG, INFO, WARNING, ERROR, CRITICAL)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_HidingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    quiet_http()


def quiet_http() -> None:
    """Keep the HTTP libraries from logging whole URLs at INFO and header lists at DEBUG."""
    for name in ("httpx", "httpcore", "httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))


def hide(value: str) -> None:
    """Show `***` in place of `value` in every later log line, also as a URL, JSON and HTTP Basic write it."""
    global _longest_first
    if len(value) < MIN_LENGTH:
        return
    known = _hidden.pop(value, None)
    _hidden[value] = known or _forms(value)  # at the end: it was used last
    if known:
        return
    while len(_hidden) > _MAX_HIDDEN:
        _hidden.pop(next(iter(_hidden)))
    _longest_first = sorted(set().union(*tuple(_hidden.values())), key=len, reverse=True)


def blot(text: str) -> str:
    """`text` with `***` in place of every hidden value."""
    for form in _longest_first:
        text = text.replace(form, "***")
    return text


def _forms(value: str) -> set[str]:
    raw = value.encode(errors="replace")
    # What Base64 makes of it depends on how many bytes are before it, modulo 3; its ends mix with what is around it.
    encoded = [b64encode(bytes(before) + raw).decode() for before in range(3)]
    middles = {text[(0, 2, 3)[before] : (before + len(raw)) * 8 // 6] for before, text in enumerate(encoded)}
    urls = {quoted(raw, safe=safe) for quoted in (quote, quote_plus) for safe in ("", "/")}
    return {value, json.dumps(value)[1:-1], *urls, *middles}


class _HidingFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return blot(super().format(record))

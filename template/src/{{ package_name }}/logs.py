"""Logging to stderr, with credentials blotted out.

stdout belongs to the protocol. The second belt (nothing logs a credential in the first place) is for what libraries
and tools log on their own: a URL with a key in it, an exception that quotes a header.
"""

from __future__ import annotations

import logging
import sys

_hidden: dict[str, None] = {}
_MAX_HIDDEN = 1000  # rotated secrets stay hidden; a bound all the same


def configure(level: str) -> None:
    """Send the log to stderr from `level` on (DEBUG, INFO, WARNING, ERROR, CRITICAL)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_HidingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    quiet_http()


def quiet_http() -> None:
    """Keep the HTTP libraries from logging whole URLs at INFO and header lists at DEBUG."""
    for name in ("httpx", "httpcore", "httpx2", "httpcore2"):
        logger = logging.getLogger(name)
        logger.setLevel(max(logging.WARNING, logger.getEffectiveLevel()))


def hide(value: str) -> None:
    """Show `***` in place of `value` in every later log line. Values under 6 characters would blot out plain words."""
    if len(value) >= 6 and value not in _hidden:
        if len(_hidden) >= _MAX_HIDDEN:
            _hidden.pop(next(iter(_hidden)))
        _hidden[value] = None


def blotted(text: str) -> str:
    """`text` with `***` in place of every value that is to be hidden."""
    for value in tuple(_hidden):
        text = text.replace(value, "***")
    return text


class _HidingFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return blotted(super().format(record))

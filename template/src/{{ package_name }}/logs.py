"""Logging to stderr, with credentials blotted out.

stdout belongs to the protocol. The second belt (nothing logs a credential in the first place) is for what libraries
and tools log on their own: a URL with a key in it, an exception that quotes a header.
"""

from __future__ import annotations

import logging
import sys
from collections import OrderedDict
from urllib.parse import quote

_hidden: OrderedDict[str, None] = OrderedDict()
_MAX_HIDDEN = 1000  # rotated secrets stay hidden; beyond, those that were used longest ago are forgotten


def configure(level: str) -> None:
    """Send the log to stderr from `level` on (DEBUG, INFO, WARNING, ERROR, CRITICAL)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_HidingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # They log whole URLs at INFO and header lists at DEBUG.
    for name in ("httpx", "httpcore", "httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))


def hide(value: str) -> None:
    """Show `***` in place of `value` in every later log line. Values under 6 characters would blot out plain words."""
    if len(value) < 6:
        return
    for form in {value, quote(value, safe="")}:  # as it is, and as it stands in a URL or a form
        try:
            _hidden.move_to_end(form)
        except KeyError:
            _hidden[form] = None
    while len(_hidden) > _MAX_HIDDEN:
        _hidden.popitem(last=False)


class _HidingFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        for value in tuple(_hidden):
            text = text.replace(value, "***")
        return text

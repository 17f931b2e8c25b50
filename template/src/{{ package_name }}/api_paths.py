"""Paths that a model makes up, and what servers and proxies on the way may make of them."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import unquote

_MAX_ROUNDS = 5  # of percent-decoding


def leads_away(path: str) -> bool:
    """Whether `path` could mean a place that is not below the base URL: another host, or `..` in any disguise.

    The API decides what a path means, and a proxy before it may decode once more than it does, cut `;x=1` off a segment
    or take a backslash for a slash. So every reading counts: `/..;/admin`, `/%252e%252e/admin`, `/.%00./admin`.
    """
    if "#" in path:
        return True  # what follows would not be sent: the request would be another one
    if path.startswith(("//", "\\", "/\\")):
        return True  # a host, for some
    if re.match("[^/?]*[:@]", path) and not re.match("https?://[^/?]", path):
        return True  # another scheme, or a user for whoever joins it to a host
    segments = re.split(r"[/\\]", _plain(path.partition("?")[0]))
    return any(_is_upwards(segment) for segment in segments)


def _plain(path: str) -> str:
    """`path` as the most eager of readers would see it; ".." where none could."""
    for _ in range(_MAX_ROUNDS):
        try:
            plain = unicodedata.normalize("NFKC", unquote(path, errors="strict"))
        except UnicodeError:  # among them the overlong spelling of a dot, %C0%AE
            return ".."
        if plain == path:
            # %u002e: a spelling of Microsoft's, which is left over here.
            return ".." if re.search("%u[0-9A-Fa-f]{4}", plain) else plain
        path = plain
    return ".."


def _is_upwards(segment: str) -> bool:
    if any(unicodedata.category(letter) == "Cc" for letter in segment):
        return True
    name = re.split("[;?#]", segment)[0]
    visible = "".join(letter for letter in name if letter.isprintable() and letter != " ")
    return len(visible) > 1 and set(visible) == {"."}

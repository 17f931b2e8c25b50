"""What the API answers, with a bound on everything: seconds, bytes, depth, and how much of an error is repeated."""

from __future__ import annotations

import asyncio
import codecs
import json
import math
import re
import zlib
from typing import Any, cast

import httpx

from . import logs
from .answers import COMMAND, MEND_COMMAND
from .errors import UpstreamError

MAX_DEPTH = 100  # of arrays and objects; SDKs and clients give up somewhere between 64 and 1,000
MAX_ERROR_BYTES = 65536
MAX_WORDS = 200  # characters of the API's own words in an error
WORDS_DEPTH = 4  # how deep in it they are looked for

# Codecs for text; among Python's others are some that take a time of the square of the length.
_CHARSETS = re.compile(
    r"utf-(8|16|32).*|ascii|iso8859-\d+|cp125\d|koi8-[ru]|shift_jis|euc_(jp|kr)|gb(k|2312|18030)|big5"
)
_KINDS = re.compile(
    r"application/(json|problem\+json|xml|pdf|zip|octet-stream)|text/(html|plain|csv|xml)|image/(jpeg|png)"
)
# Where APIs say what is wrong: RFC 9457, RFC 6749, FastAPI, GitHub, JSON:API and their like.
_FIELDS = ("message", "detail", "error_description", "error", "title", "msg", "errors")
# Each escape of a JSON text from left to right, so that a backslash that is escaped itself begins none.
_ESCAPES = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)


class BoundedTransport(httpx.AsyncBaseTransport):
    """The network, with an end to every exchange.

    It stands below the credential's `httpx.Auth`: looking a key up or renewing a token is not the API's time, and a 401
    that is read there is bounded like every answer.

    Args:
        seconds: for one exchange, from the request to the last byte.
        max_bytes: of a successful answer, decompressed.
    """

    def __init__(self, network: httpx.AsyncBaseTransport, seconds: float, max_bytes: int) -> None:
        self._network = network
        self._seconds = seconds
        self._max_bytes = max_bytes

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request and read the whole answer.

        Raises:
            UpstreamError: the answer did not come in time, is too large, or is packed in a way nobody asked for.
            httpx.HTTPError: as from the network.
        """
        try:
            async with asyncio.timeout(self._seconds):
                response = await self._network.handle_async_request(request)
                try:
                    body = await self._read(response, head_only=request.method == "HEAD")
                finally:
                    await response.aclose()
        except (TimeoutError, httpx.TimeoutException):
            raise UpstreamError(
                f"The API did not answer within {self._seconds:g} s. Try again later, or raise API_TIMEOUT."
            ) from None
        headers = [(name, value) for name, value in response.headers.raw if name.lower() != b"content-encoding"]
        return httpx.Response(
            response.status_code, headers=headers, stream=httpx.ByteStream(body), extensions=response.extensions
        )

    async def aclose(self) -> None:
        await self._network.aclose()

    async def _read(self, response: httpx.Response, head_only: bool) -> bytes:
        if head_only:
            return b""  # whatever length it declares
        if response.is_success:
            return await _unpacked(response, self._max_bytes)
        try:
            return await _unpacked(response, MAX_ERROR_BYTES)
        except UpstreamError:
            return b""  # the status says more than this fault


async def _unpacked(response: httpx.Response, limit: int) -> bytes:
    """The body, decompressed piece by piece: 64 KB from the network may be 64 MB of it."""
    too_much = UpstreamError(
        f"The API's answer is more than {limit / 1e6:g} MB: ask for less, such as one page, or raise API_MAX_BYTES."
    )
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip"):
        raise UpstreamError("The API packed its answer in a way that was not asked for. Only gzip is understood.")
    declared = int(response.headers.get("content-length", 0))
    if declared > limit:
        raise too_much
    gunzip = zlib.decompressobj(wbits=31)
    body = bytearray()
    complete = True
    async for chunk in cast(httpx.AsyncByteStream, response.stream):
        try:
            body += gunzip.decompress(chunk, limit - len(body) + 1) if encoding == "gzip" else chunk
        except zlib.error:
            raise UpstreamError("The API's answer is not the gzip that it says it is. Try again later.") from None
        if len(body) > limit:
            raise too_much
        complete = gunzip.eof or encoding != "gzip"
    if not complete:
        raise UpstreamError("The API's answer ends too early. Try again later.")
    return bytes(body)


def decoded_json(response: httpx.Response) -> Any:
    """The JSON of an answer, None where it is empty.

    What JSON can spell and the way to the client cannot carry is replaced: half a surrogate pair by U+FFFD, a number
    beyond a float, NaN and Infinity by null.

    Raises:
        UpstreamError: it is not JSON, or JSON that cannot be carried.
    """
    if not response.content:
        return None
    too_deep = UpstreamError(f"The API's answer is nested more than {MAX_DEPTH} deep. Ask for a part of it.")
    text = _ESCAPES.sub(_whole_characters, _text(response))
    try:
        value = json.loads(text, parse_float=_finite, parse_constant=lambda _: None)
    except json.JSONDecodeError:
        raise UpstreamError(f"The API answered with something that is not JSON ({_kind(response)}).") from None
    except ValueError:
        raise UpstreamError(
            "The API's answer has a number of thousands of digits, which cannot be read. Ask for something else."
        ) from None
    except RecursionError:
        raise too_deep from None
    if _is_deeper(value, MAX_DEPTH):
        raise too_deep
    return value


def _text(response: httpx.Response) -> str:
    charset = response.charset_encoding
    try:
        codec = codecs.lookup(charset or json.detect_encoding(response.content)).name
    except LookupError:
        codec = ""
    if not _CHARSETS.fullmatch(codec):
        raise UpstreamError("The API's answer is in a charset that this server does not read. UTF-8 is usual.")
    return response.content.decode(codec, "replace").removeprefix("\ufeff")


def _whole_characters(escape: re.Match[str]) -> str:
    return "\\ufffd" if escape[1] else escape[0]


def _finite(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _is_deeper(value: Any, depth: int) -> bool:
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(depth):
        parts = (part.values() if isinstance(part, dict) else part for part in level)
        level = [inner for part in parts for inner in part if isinstance(inner, (dict, list))]
    return bool(level)


def _kind(response: httpx.Response) -> str:
    """The answer's media type, if it is one of a few: a header is the API's text too, and the model reads it."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not kind:
        return "no content type"
    return kind if _KINDS.fullmatch(kind) else "another content type"


def what_to_do(response: httpx.Response) -> str:
    """One line for an answer that is no success. For what a request can mend, with the API's own words."""
    status = response.status_code
    answered = f"The API answered {status}"
    if response.is_redirect:
        return f"{answered}, a redirect, which is not followed with a credential. Correct the path, or API_BASE_URL."
    if status == 401:
        return f"{answered}: it refuses this path, or does not accept the credential. In that case: {COMMAND} {MEND_COMMAND}"
    if status == 429:
        return f"{answered}: too many requests. Try again {_when(response)}."
    if status >= 500:
        return f"{answered}: it failed. Try again later."
    if status == 403:
        advice = "the credential may not do this."
    elif status in (404, 410):
        advice = "there is nothing at that path. Check the arguments."
    else:
        advice = "it does not accept this request. Check the arguments."
    return f"{answered}: {advice}{_quoted(response)}"


def _when(response: httpx.Response) -> str:
    after = response.headers.get("retry-after", "")
    if re.fullmatch(r"[0-9]{1,5}", after) and int(after) < 86400:
        return f"in {int(after)} s"
    return "later"


def _quoted(response: httpx.Response) -> str:
    """What the API says is wrong: one short line in quotes, without a credential and without marks that mislead."""
    try:
        words = "; ".join(dict.fromkeys(_words(decoded_json(response), WORDS_DEPTH)))
    except UpstreamError:
        return ""
    words = "".join(letter if letter.isprintable() else " " for letter in words)
    words = re.sub('["“”„‟＂]', "'", " ".join(words.split()))
    words = logs.blot(words)
    if len(words) > MAX_WORDS:
        words = words[: MAX_WORDS - 1] + "…"
    return f' The API says: "{words}"' if words else ""


def _words(value: Any, depth: int, where: str = "") -> list[str]:
    """The texts of a JSON error: those at the usual names, of each error in a list, or of each argument by its name."""
    if isinstance(value, str) and value.strip():
        return [f"{where}{value.strip()}"]
    if depth == 0 or not isinstance(value, (dict, list)):
        return []
    if isinstance(value, list):
        return [text for item in value[:3] for text in _words(item, depth - 1, where)]
    if isinstance(value.get("loc"), list):  # FastAPI: which argument
        where = ".".join(map(str, value["loc"])) + ": "
    names = [name for name in _FIELDS if name in value]
    if names or depth == WORDS_DEPTH:
        return [text for name in names for text in _words(value[name], depth - 1, where)]
    return [text for name in list(value)[:3] for text in _words(value[name], depth - 1, f"{name}: ")]

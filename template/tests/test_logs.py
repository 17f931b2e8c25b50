"""The second belt: what is hidden stays hidden, in whatever form a library writes it."""

from __future__ import annotations

import io
import json
import logging
from base64 import b64encode
from collections.abc import Iterator
from urllib.parse import quote, quote_plus, urlencode

import pytest
from pkg import logs

VALUE = 'sentinel/5 "é"+=&\\x'


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """What a test hides is shown again after it: here it is only made up."""
    kept = dict(logs._hidden)
    yield
    logs._hidden.clear()
    logs._hidden.update(kept)
    logs._longest_first[:] = sorted({form for forms in kept.values() for form in forms}, key=len, reverse=True)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """A log that is formatted as the server's is."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs._HidingFormatter("%(levelname)s %(message)s"))
    logger = logging.getLogger("sentinel")
    logger.addHandler(handler)
    yield stream
    logger.removeHandler(handler)


@pytest.mark.parametrize(
    "text",
    [
        VALUE,
        quote(VALUE),
        quote(VALUE, safe=""),
        quote_plus(VALUE),
        urlencode({"key": VALUE}),
        json.dumps(VALUE),
        json.dumps({"a": [VALUE]}),
        *(
            b64encode(f"{before}:{VALUE}{after}".encode()).decode()
            for before in ("", "a", "ab", "abc")
            for after in ("", ":", "xyz")
        ),
    ],
)
def test_every_form_is_blotted(text: str) -> None:
    assert logs.blot(text) == text
    logs.hide(VALUE)
    left = logs.blot(f"<{text}>")
    assert "***" in left
    for part in ("sentinel", quote("é"), "\\u00e9", b64encode(VALUE.encode()).decode()[4:12]):
        assert part not in left
    assert len(left) < len(text)


def test_a_value_that_begins_another_does_not_uncover_it() -> None:
    logs.hide("sentinel")
    logs.hide("sentinel-and-more")
    assert logs.blot("a sentinel-and-more b sentinel") == "a *** b ***"


@pytest.mark.parametrize(("value", "shown"), [("12345", "a 12345 b"), ("123456", "a *** b"), ("", "a  b")])
def test_only_what_is_too_short_to_be_a_secret_stays(value: str, shown: str) -> None:
    logs.hide(value)
    assert logs.blot(f"a {value} b") == shown


def test_a_lone_surrogate_can_be_hidden() -> None:
    logs.hide("sentinel\ud800")
    assert logs.blot("sentinel\ud800") == "***"


def test_arguments_tracebacks_and_stacks_are_blotted(log: io.StringIO) -> None:
    logs.hide("sentinel-value")
    logger = logging.getLogger("sentinel")
    try:
        raise RuntimeError("https://api.example.com/?api_key=sentinel-value")
    except RuntimeError as error:
        logger.error("key %s", {"key": "sentinel-value"}, exc_info=True, stack_info=True)
        error.add_note("sentinel-value")
        logger.exception("again")
    text = log.getvalue()
    assert text.count("RuntimeError: https://api.example.com/?api_key=***") == 2
    assert "sentinel-value" not in text


def test_a_thousand_rotations_later_the_newest_are_hidden() -> None:
    for number in range(logs._MAX_HIDDEN + 1):
        logs.hide(f"sentinel-{number:06}")
    assert len(logs._hidden) == logs._MAX_HIDDEN
    assert logs.blot(f"sentinel-{logs._MAX_HIDDEN:06} sentinel-000001") == "*** ***"
    assert "sentinel-000000" in logs.blot("sentinel-000000")  # the oldest


def test_what_is_still_used_is_not_forgotten_for_what_was_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_MAX_HIDDEN", 10)
    logs._hidden.clear()
    for number in range(30):
        logs.hide("a-key-in-use")
        logs.hide(f"rotated-{number:06}")
    assert logs.blot("a-key-in-use rotated-000029") == "*** ***"
    assert "rotated-000001" in logs.blot("rotated-000001")


@pytest.mark.parametrize(("level", "httpx"), [("DEBUG", "WARNING"), ("INFO", "WARNING"), ("ERROR", "ERROR")])
def test_the_log_goes_to_stderr_and_loggers_of_urls_are_quiet(
    level: str, httpx: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    kept = root.level, root.handlers[:]
    names = ("httpx", "httpcore", "httpx2", "httpcore2")
    levels = {name: logging.getLogger(name).level for name in names}
    try:
        logs.configure(level)
        logs.hide("sentinel-value")
        for name in names:
            assert logging.getLevelName(logging.getLogger(name).level) == httpx
        logging.getLogger("anything").critical("sentinel-value")
    finally:
        root.handlers[:] = kept[1]
        root.setLevel(kept[0])
        for name in names:
            logging.getLogger(name).setLevel(levels[name])
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("CRITICAL anything: ***")) == ("", 1)

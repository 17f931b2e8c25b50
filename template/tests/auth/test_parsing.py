"""PKCE, the strict reading of answers (A21), and which URLs and addresses are believed (A1, A7)."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import urlencode

import pytest

from .package import (
    AuthError,
    ConfigError,
    LoginRequired,
    OAuth2Config,
    OAuth2Token,
    PKCECodeVerifier,
    ProtocolError,
    Reply,
    TransientAuthError,
    check_url,
    is_public_address,
    open_browser,
    parse_object,
    parse_token,
    printable,
)


def test_pkce_rfc_7636_appendix_b() -> None:
    verifier = PKCECodeVerifier("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    assert verifier.challenge == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    assert verifier.method == "S256"
    assert verifier.verifier not in repr(verifier)


@pytest.mark.parametrize("bad", ["a" * 42, "a" * 129, "a" * 42 + "=", "a" * 42 + "é", "a" * 43 + "\n"])
def test_pkce_refuses_other_lengths_and_alphabets(bad: str) -> None:
    with pytest.raises(ValueError, match="43 to 128"):
        PKCECodeVerifier(bad)


def test_pkce_takes_what_the_rfc_allows() -> None:
    every = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
    for good in (every, "a" * 43, "~" * 128):
        assert len(PKCECodeVerifier(good).challenge) == 43
    asked: list[int] = []
    PKCECodeVerifier.generate(lambda size: asked.append(size) or "a" * 43)  # type: ignore[func-returns-value]
    assert asked == [64]


def test_pkce_verifiers_are_distinct() -> None:
    assert len({PKCECodeVerifier.generate().verifier for _ in range(10_000)}) == 10_000
    assert PKCECodeVerifier("a" * 43).challenge != PKCECodeVerifier("~" * 128).challenge


def token(body: Any, status: int = 200, kind: str = "application/json", **more: Any) -> OAuth2Token:
    raw = (
        body if isinstance(body, bytes) else json.dumps({"access_token": "abc", "token_type": "bearer"} | body).encode()
    )
    options: dict[str, Any] = {"what": "the code", "requested": ("read",), "sent_at": 1000.0} | more
    return parse_token(Reply(status, {"content-type": kind}, raw), "Fake", **options)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        *((3600, 3600), ("28800", 28800), (59.9, 59), (1e300, 315360000)),
        *((None, None), (0, None), (-1, None), ("x", None), (True, None), ([], None), ("1e999", None)),
        ("9" * 5000, None),
    ],
)
def test_expires_in(value: Any, seconds: int | None) -> None:
    found = token({"expires_in": value})
    assert found.expires_in == seconds
    assert found.expires_at == (None if seconds is None else 1000.0 + seconds)


@pytest.mark.parametrize(
    ("scope", "scopes"),
    [
        ("a b", ("a", "b")),
        ("repo,user", ("repo", "user")),
        ("", ()),
        (None, ("read",)),
        ("a\x1b[2J", ("a[2J",)),
    ],
)
def test_scope(scope: str | None, scopes: tuple[str, ...]) -> None:
    assert token({"scope": scope}).scopes == scopes


def test_token_type_and_refresh_token() -> None:
    assert token({"token_type": "BEARER"}).token_type == "Bearer"
    assert token({}, kept="old").refresh_token == "old"
    assert token({"refresh_token": ""}, kept="old").refresh_token == "old"
    assert token({"refresh_token": "new"}, kept="old").refresh_token == "new"
    assert token({"refresh_token": "new"}).refresh_token == "new"
    assert token({}).refresh_token is None
    for kind in ("DPoP", "mac", "bearer2", 7, ["bearer"]):
        with pytest.raises(ProtocolError):
            token({"token_type": kind})
    for value in (7, "a b", "a\nb", ["rt"]):
        with pytest.raises(ProtocolError):
            token({"refresh_token": value}, kept="old")


EMPTY: list[dict[str, Any]] = [
    {"error": None},
    {"error": "", "error_description": "", "error_uri": ""},
    {"error": False, "error_description": None},
    {"error_description": "SENTINEL"},
    {"ok": True, "error": None},
    {"token_type": None},
    {"token_type": ""},
    {"scope": None, "expires_in": None, "refresh_token": None, "error": None, "token_type": None},
]


@pytest.mark.parametrize("fields", EMPTY)
def test_a_token_is_a_success_whatever_is_empty_beside_it(fields: dict[str, Any]) -> None:
    found = token(fields, kept="old")
    assert (found.access_token, found.refresh_token, found.scopes) == ("abc", "old", ("read",))
    form = urlencode({"access_token": "abc"} | {name: value or "" for name, value in fields.items()}).encode()
    found = token(form, kind="application/x-www-form-urlencoded", kept="old")
    assert (found.access_token, found.refresh_token, found.expires_at) == ("abc", "old", None)


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"error": None, "access_token": None}, 200, "bad_access_token"),
        ({"error": "", "ok": False}, 200, "unknown_error"),
        ({"error": 7}, 200, "unknown_error"),
        ({"error": {"code": 1}}, 200, "unknown_error"),
        ({"error": None}, 400, "http_400"),
    ],
)
def test_what_is_still_no_success(fields: dict[str, Any], status: int, code: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        token(fields, status)
    assert caught.value.code == code


@pytest.mark.parametrize("bad", ["", None, 5, "a b", "a\r\nX: y", "a\x00", "é", "a" * 70000])
def test_a21_access_token_cannot_inject_a_header(bad: Any) -> None:
    with pytest.raises(ProtocolError):
        token({"access_token": bad})


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("invalid_grant", 400, LoginRequired),
        ("invalid_grant", 403, LoginRequired),
        ("bad_refresh_token", 200, LoginRequired),
        ("bad_verification_code", 200, LoginRequired),
        ("interaction_required", 400, LoginRequired),
        ("incorrect_client_credentials", 200, ConfigError),
        ("invalid_client", 401, ConfigError),
        ("redirect_uri_mismatch", 200, ConfigError),
        ("temporarily_unavailable", 400, TransientAuthError),
        ("invalid_grant", 503, TransientAuthError),
        ("invalid_grant", 429, TransientAuthError),
        ("something_new", 400, ProtocolError),
        ("<script>", 400, ProtocolError),
        (7, 400, ProtocolError),
    ],
)
def test_errors_count_whatever_the_status(code: Any, status: int, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        token({"error": code, "error_description": "SENTINEL"}, status)
    assert "SENTINEL" not in str(caught.value)
    assert "<" not in str(caught.value)


@pytest.mark.parametrize("odd", ["two words", "new\x1b[2J", "new\n", "new<", "n\u00e9w", "n" * 65, "invalid_grant "])
def test_a_code_that_is_none_is_not_shown(odd: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        token({"error": odd})
    assert caught.value.code == "unknown_error"
    assert str(caught.value) == "Fake refused the code (unknown_error)."


def test_slack_says_ok_false() -> None:
    with pytest.raises(ProtocolError, match="invalid_code"):
        token({"ok": False, "error": "invalid_code"})


# What the tables of codes say, one by one: a person who has to sign in again is not sent to look at settings.
AGAIN = [
    *("invalid_grant", "bad_refresh_token", "bad_verification_code", "interaction_required", "consent_required"),
    *("login_required", "invalid_rapt", "access_denied", "authorization_declined", "expired_token"),
]
SETTINGS = [
    *("invalid_client", "unauthorized_client", "incorrect_client_credentials", "redirect_uri_mismatch"),
    *("invalid_scope", "invalid_target", "invalid_request", "unsupported_grant_type", "device_flow_disabled"),
]


@pytest.mark.parametrize(
    ("codes", "kind"),
    [
        (AGAIN, LoginRequired),
        (SETTINGS, ConfigError),
        (["temporarily_unavailable", "server_error"], TransientAuthError),
    ],
)
def test_each_code_has_its_meaning(codes: list[str], kind: type[AuthError]) -> None:
    for code in codes:
        with pytest.raises(kind) as caught:
            token({"error": code}, 400)
        assert caught.value.code == code
        assert type(caught.value) is kind
        for other in (code.upper(), f"{code}x", f" {code}"):
            with pytest.raises(ProtocolError):
                token({"error": other}, 200)


GOOD = {"access_token": "abc"}


@pytest.mark.parametrize(
    ("body", "status", "kind", "code"),
    [
        (GOOD, 500, TransientAuthError, "http_500"),
        (GOOD, 408, TransientAuthError, "http_408"),
        (GOOD, 302, ProtocolError, "http_302"),
        (GOOD, 304, ProtocolError, "http_304"),
        (GOOD, 400, ProtocolError, "http_400"),
        (GOOD, 199, ProtocolError, "http_199"),
        ({"error": "invalid_grant"}, 307, ProtocolError, "http_307"),
        ({"error": "invalid_grant"}, 502, TransientAuthError, "http_502"),
        ({"error": "not_found"}, 404, ProtocolError, "http_404"),
        ({"error": "method_not_allowed"}, 405, ProtocolError, "http_405"),
        ({"error": "gone"}, 410, ProtocolError, "http_410"),
        ({"error": "Not Found"}, 404, ProtocolError, "http_404"),
        ({"error": {"message": "x"}}, 403, ProtocolError, "http_403"),
        ({"error": "invalid_grant"}, 404, LoginRequired, "invalid_grant"),
    ],
)
def test_the_status_is_looked_at_before_the_body(
    body: dict[str, Any], status: int, kind: type[AuthError], code: str
) -> None:
    raw = json.dumps(body).encode()
    with pytest.raises(kind) as caught:
        token(raw, status)
    assert caught.value.code == code


@pytest.mark.parametrize(("after", "seconds"), [("7", 7), ("0", None), ("Wed, 21 Oct 2026 07:28:00 GMT", None)])
def test_when_to_try_again(after: str, seconds: float | None) -> None:
    for status, ambiguous in ((429, False), (503, True)):
        with pytest.raises(TransientAuthError) as caught:
            parse_object(Reply(status, {"retry-after": after}, b"{}"), "Fake")
        assert (caught.value.retry_after, caught.value.ambiguous) == (seconds, ambiguous)


LABELS = ("application/json", "text/plain; charset=utf-8", "text/html", "application/octet-stream", "", "image/png")


@pytest.mark.parametrize("kind", [*LABELS, "application/x-www-form-urlencoded", "application/problem+json"])
def test_json_is_json_whatever_its_label(kind: str) -> None:
    good = json.dumps({"access_token": "abc", "expires_in": 60}).encode()
    for body in (good, b" \r\n\t" + good, b"\xef\xbb\xbf" + good, b"\xef\xbb\xbf\n" + good, good + b"\n"):
        assert token(body, kind=kind).expires_in == 60
    assert token(good.decode().encode("utf-16"), kind=kind).access_token == "abc"
    with pytest.raises(LoginRequired, match="invalid_grant"):
        token(b'\n{"error": "invalid_grant"}', 400, kind)


@pytest.mark.parametrize("kind", LABELS)
def test_a_form_has_to_be_labelled_as_one(kind: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        token(b"access_token=abc&token_type=bearer", kind=kind)
    assert caught.value.code == "bad_body"


@pytest.mark.parametrize(
    "beside",
    [
        b'"name": "Jos\xe9"',
        b'"name": "\\ud800"',
        b'"expires_in": NaN',
        b'"expires_in": -Infinity',
        b'"expires_in": 1e999',
        b'"issued_at": ' + b"9" * 6000,
        b'"error": null, "error": null',
    ],
)
def test_a_token_is_not_lost_to_what_stands_beside_it(beside: bytes) -> None:
    found = token(b'{"access_token": "abc", "refresh_token": "new", ' + beside + b"}", kept="old")
    assert (found.access_token, found.refresh_token, found.expires_in) == ("abc", "new", None)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"\xff\xfe", "application/json"),
        (b"[" * 1_000_000, "application/json"),
        (b"[1]", "application/json"),
        (b'{"a":' * 100_000, "application/json"),
        (b'{"access_token": "abc"', "application/json"),
        (b'{"access_token": "abc\xe9"}', "application/json"),
        (b'{"access_token": "abc\\ud800"}', "application/json"),
        (b'x{"access_token": "abc"}', "application/json"),
        (b"", "application/json"),
        (b"access_token=abc" + b"&a=1" * 100, "application/x-www-form-urlencoded"),
        (b"<html>", "text/html"),
        (b"access_token=a&token_type=bearer", "text/plain"),
        (b"9" * 6000, "application/json"),
    ],
)
def test_a21_hostile_bodies_are_protocol_errors(body: bytes, kind: str) -> None:
    with pytest.raises(ProtocolError):
        token(body, kind=kind)


def test_form_bodies_are_read() -> None:
    kind = "application/x-www-form-urlencoded; charset=utf-8"
    assert token(b"access_token=abc&scope=repo%2Cuser&token_type=bearer", kind=kind).scopes == (
        "repo",
        "user",
    )
    assert token(b"access_token=abc&scope=", kind=kind).scopes == ()  # a GitHub App has permissions instead


BAD_URLS = [
    *(
        "javascript:alert(1)",
        "file:///etc/passwd",
        "data:text/html,x",
        "ms-msdt:/id",
        "--incognito",
        "-remote=x",
    ),
    *(
        "http://evil.example/",
        'https://a"&calc&',
        "https://a&calc/",
        "https://a/\r\nx",
        "https://u:p@a/",
        "https://",
    ),
    *(
        "https://a/\x1b",
        "HTTPS:\\\\a",
        "https://a/'; rm\t-rf",
        "//a",
        "",
        "https://a:0/",
        "https://[::1",
        "https://a/%20|x",
        "https://a..b/",
        "https://.example/",
        f"https://{'a' * 64}.example/",
    ),
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_a1_odd_urls_are_never_opened_or_called(url: str) -> None:
    opened: list[str] = []
    with pytest.raises(ConfigError) as caught:
        open_browser(url, opened.append)
    assert opened == []
    assert not url or url not in str(caught.value)
    with pytest.raises(ConfigError):
        OAuth2Config(client_id="c", authorization_url=url, token_url="https://a/t")


def test_a1_a_plain_url_is_opened_once() -> None:
    opened: list[str] = []
    open_browser("https://example.com/authorize?a=b&c=%20d", opened.append)
    time.sleep(0.05)
    assert opened == ["https://example.com/authorize?a=b&c=%20d"]
    assert check_url("http://[::1]:80/x", "x").port == 80


@pytest.mark.parametrize(
    ("url", "anywhere", "discovered"),
    [
        ("https://id.example/a?b=c", True, True),
        ("https://localhost/", True, False),
        ("http://localhost:1/", True, False),
        ("http://127.9.9.9/", True, False),
        ("https://[::1]/", True, False),
        ("http://localhost.evil.example/", False, False),
        ("http://evil-localhost/", False, False),
        ("http://evil.localhost/", False, False),
        ("http://127.0.0.1.evil.example/", False, False),
        ("http://evil.example/localhost", False, False),
        ("http://[::2]/", False, False),
        ("http://10.0.0.1/", False, False),
        ("http://0.0.0.0/", False, False),
        ("https://id.example@evil.example/", False, False),
        ("https://id.example:65536/", False, False),
        ("ftp://localhost/", False, False),
        ("https://id.example/" + "x" * (8192 - 19), True, True),
        ("https://id.example/" + "x" * (8193 - 19), False, False),
    ],
)
def test_a1_which_urls_are_taken(url: str, anywhere: bool, discovered: bool) -> None:
    for good, loopback in ((anywhere, True), (discovered, False)):
        if good:
            assert check_url(url, "x", loopback=loopback).hostname
        else:
            with pytest.raises(ConfigError):
                check_url(url, "x", loopback=loopback)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "::ffff:127.0.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "224.0.0.1",
        "10.0.0.1",
        "0.0.0.0",
        "fe80::1%eth0",
        "::1",
        "fc00::1",
        "ff02::1",
        "2001::1",
        "2001:0:0808:0808::1",
        "2002:0808:0808::1",
        "2001:db8::1",
        "224.0.1.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::808:808",
        "::ffff:8.8.8.8",
        "192.168.0.1",
        "172.16.0.1",
        "255.255.255.255",
        "::7f00:1",
    ],
)
def test_a7_addresses_that_are_not_public(address: str) -> None:
    assert not is_public_address(address)


def test_a7_public_addresses() -> None:
    assert all(map(is_public_address, ("8.8.8.8", "2606:4700::1", "64:ff9b::808:808")))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Ada L\u00e9vy", "Ada L\u00e9vy"),
        ("a\x1b[2J\r\nb", "a[2Jb"),
        ("a\u202eb\ud800c\u2028d", "abcd"),
        ("x" * 101, "x" * 100),
        ("\x00" * 50 + "y" * 100, "y" * 100),
        (7, ""),
        (None, ""),
        (["a"], ""),
    ],
)
def test_what_is_shown_of_a_provider(text: object, shown: str) -> None:
    assert printable(text) == shown
    assert printable(text, 2) == shown[:2]

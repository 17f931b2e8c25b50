"""Answers that go together: what an update does to the others when one of them changes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import copier
import pexpect
import pytest
import yaml
from conftest import commit, copy_template
from updates import tree, update

# The answers file is looked for only where there is one.
pytestmark = pytest.mark.filterwarnings("error::copier.errors.MissingFileWarning")

ISSUER = "https://sso.example.org"
PROVIDERS: dict[str, dict[str, str]] = {
    "none": {},
    "github": {},
    "google": {},
    "azure": {"azure_tenant_id": "contoso.example.org"},
    "custom": {"oauth_issuer": ISSUER, "oauth_scopes": "read write"},
}
SCOPES = {"github": "read:user", "google": "openid email profile", "azure": "User.Read", "custom": ""}
URLS = {
    "oauth_authorization_url": "https://sso.example.org/authorize",
    "oauth_token_url": "https://sso.example.org/token",
}


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Callable[..., Path]:
    """`project(auth_keys="A")` is a committed project with these answers, to be changed."""

    def project(**answers: Any) -> Path:
        folder = copy_template(template, tmp_path / "weather-api", answers)
        commit(folder)
        return folder

    return project


def answer(project: Path, **answers: Any) -> dict[str, Any]:
    """Answer these anew, as the README's command does, and return what is recorded then."""
    update(project, copier.VcsRef.CURRENT, **answers)
    return recorded(project)


def recorded(project: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((project / ".copier-answers.yml").read_text())
    return found


def refusal(project: Path, **answers: Any) -> str:
    """The message of an update that changes nothing."""
    before = tree(project)
    with pytest.raises(ValueError, match="Validation error") as raised:
        answer(project, **answers)
    assert tree(project) == before
    return str(raised.value)


# Each provider gives way to two others, and with EVERY_TEST=1 to the other two.
RING = [*PROVIDERS] * 2
STEPS = (3, 4) if os.environ.get("EVERY_TEST") else (1, 2)
PAIRS = [(old, RING[place + step]) for step in STEPS for place, old in enumerate(PROVIDERS)]


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_another_provider_begins_with_its_own_defaults(
    template: Path, project: Callable[..., Path], tmp_path: Path, old: str, new: str
) -> None:
    before = project(oauth_provider=old, **PROVIDERS[old])
    said = {"oauth_provider": new} | ({"oauth_issuer": ISSUER} if new == "custom" else {})
    found = answer(before, **said)
    assert found.get("oauth_scopes") == SCOPES.get(new)
    assert found["api_auth"] == ("header" if new == "none" else "oauth")
    assert found.get("azure_tenant_id") == ("common" if new == "azure" else None)
    # A key that there was stays; where there was none, a server without a sign-in needs one.
    keys = "" if old != "none" and new != "none" else "WEATHER_API_KEY"
    assert found["auth_keys"] == keys
    copied = copy_template(template, tmp_path / "copied/weather-api", {**said, "auth_keys": keys})
    assert tree(before) == tree(copied)


def test_what_is_passed_counts(project: Callable[..., Path]) -> None:
    found = answer(project(), oauth_provider="github", oauth_scopes="repo", api_auth="header")
    assert (found["oauth_scopes"], found["api_auth"], found["auth_keys"]) == ("repo", "header", "WEATHER_API_KEY")


def test_own_scopes_and_ways_outlast_other_changes(project: Callable[..., Path]) -> None:
    chosen = {"oauth_scopes": "repo gist", "auth_keys": "A_KEY", "api_auth": "header", "description": "Mine."}
    before = project(oauth_provider="github", **chosen)
    found = answer(before, oauth_provider="github", github_actions=False)
    assert {name: found[name] for name in chosen} == chosen
    commit(before)
    found = answer(before, oauth_provider="google", server_name="Climate")
    assert {name: found[name] for name in chosen} == {**chosen, "oauth_scopes": SCOPES["google"]}


@pytest.mark.parametrize("old", ["none", "github", "google", "azure"])
def test_a_custom_provider_needs_its_address(project: Callable[..., Path], old: str) -> None:
    before = project(oauth_provider=old, **PROVIDERS[old])
    assert "pass oauth_issuer=https://… too" in refusal(before, oauth_provider="custom")


def test_an_issuer_that_goes_leaves_no_made_up_urls(project: Callable[..., Path]) -> None:
    before = project(oauth_provider="custom", **PROVIDERS["custom"])
    both = "pass oauth_authorization_url and oauth_token_url too"
    assert both in refusal(before, oauth_issuer="")
    for given, missing in (tuple(URLS), tuple(reversed(URLS))):
        assert f"pass {missing} too" in refusal(before, oauth_issuer="", **{given: URLS[given]})
    found = answer(before, oauth_issuer="", **URLS)
    assert {name: found[name] for name in URLS} == URLS
    assert found["oauth_scopes"] == "read write"
    commit(before)
    found = answer(before, github_actions=False)
    assert {name: found[name] for name in URLS} == URLS


def test_urls_that_are_passed_take_the_place_of_an_issuer(
    project: Callable[..., Path], template: Path, tmp_path: Path
) -> None:
    assert recorded(project(oauth_provider="custom", **URLS)).items() >= {"oauth_issuer": "", **URLS}.items()
    with pytest.raises(ValueError, match="oauth_issuer is given, so the provider's URLs would count for nothing"):
        copy_template(template, tmp_path / "both", {"oauth_provider": "custom", "oauth_issuer": ISSUER, **URLS})
    with_issuer = copy_template(template, tmp_path / "issuer", {"oauth_provider": "custom", "oauth_issuer": ISSUER})
    commit(with_issuer)
    assert answer(with_issuer, **URLS).items() >= {"oauth_issuer": "", **URLS}.items()


def test_keys_that_go_and_come(project: Callable[..., Path]) -> None:
    before = project()
    for keys, way in (("", "none"), ("A_KEY", "header"), ("A_KEY, B_KEY", "header"), ("", "none")):
        found = answer(before, auth_keys=keys)
        assert (found["auth_keys"], found["api_auth"]) == (keys, way)
        commit(before)


def test_a_key_that_tools_send_themselves_stays_so(project: Callable[..., Path]) -> None:
    assert answer(project(api_auth="none"), auth_keys="A_KEY, B_KEY")["api_auth"] == "none"


def test_basic_with_one_name_is_refused(project: Callable[..., Path]) -> None:
    before = project(auth_keys="A_USER, A_PASSWORD", api_auth="basic")
    assert "api_auth=basic needs two: pass api_auth too" in refusal(before, auth_keys="A_KEY")
    assert answer(before, auth_keys="A_KEY", api_auth="bearer")["api_auth"] == "bearer"
    commit(before)
    assert answer(before, auth_keys="B_USER, B_PASSWORD", api_auth="basic")["api_auth"] == "basic"


def test_a_description_made_from_the_name_goes_with_it(project: Callable[..., Path]) -> None:
    before = project(server_name="Weather")
    assert answer(before, server_name="Climate")["description"] == "Tools of Climate for MCP clients"
    assert recorded(before)["package_name"] == "weather"


SCOPES_OF_OTHERS = [
    ("google", "read:user", "is for github, not for google: pass oauth_scopes='openid email profile'"),
    ("google", "User.Read", "is for azure, not for google"),
    ("github", "profile openid email", "is for google, not for github: pass oauth_scopes='read:user'"),
    ("github", "User.Read", "is for azure, not for github"),
    ("azure", "read:user", "is for github, not for azure: pass oauth_scopes='User.Read'"),
    ("azure", "openid email profile", "is for google, not for azure"),
    ("custom", "read:user", "is for github, not for custom: pass oauth_scopes=the scopes that it documents"),
    ("custom", "User.Read", "is for azure, not for custom"),
    ("google", "", "oauth_scopes is empty, and google refuses that"),
    ("azure", " ", "oauth_scopes is empty, and azure refuses that"),
]


@pytest.mark.parametrize(("provider", "scopes", "message"), SCOPES_OF_OTHERS)
def test_default_scopes_of_another_provider_are_a_mistake(
    template: Path, tmp_path: Path, provider: str, scopes: str, message: str
) -> None:
    with pytest.raises(ValueError, match="oauth_scopes") as raised:
        copy_template(template, tmp_path / "project", {"oauth_provider": provider, "oauth_scopes": scopes})
    assert message in str(raised.value)
    assert not (tmp_path / "project").exists()


@pytest.mark.parametrize(
    ("provider", "scopes"),
    [("custom", "openid email profile"), ("github", ""), ("github", "read:user repo"), ("azure", "openid User.Read")],
)
def test_scopes_that_are_right(template: Path, tmp_path: Path, provider: str, scopes: str) -> None:
    answers = {"oauth_provider": provider, "oauth_scopes": scopes}
    assert recorded(copy_template(template, tmp_path / "project", answers))["oauth_scopes"] == scopes


def test_the_prompts_of_an_update_offer_what_fits(project: Callable[..., Path]) -> None:
    """From no provider to Google in a terminal, with Enter for everything that is offered."""
    before = project()
    command = ["-W", "ignore", "-m", "copier", "update", "--trust", "-r", ":current:"]
    env = {**os.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
    child = pexpect.spawn(
        sys.executable, command, cwd=str(before), env=env, encoding="utf-8", dimensions=(50, 200), timeout=30
    )
    try:
        for question, keys in (
            ("Name of the server", ""),
            ("Python package", ""),
            ("Command that starts", ""),
            ("One sentence", ""),
            ("OAuth provider", "\x1b[B\x1b[B"),
            ("Scopes to ask for", ""),
            ("Environment variables that hold", ""),
            ("Address of the API", ""),
            ("How the credential travels", ""),
            ("GitHub Actions workflow", ""),
        ):
            child.expect(question)
            child.send(keys + "\r")
        child.expect(pexpect.EOF)
    finally:
        child.close(force=True)
    assert child.exitstatus == 0
    found = recorded(before)
    assert (found["oauth_provider"], found["oauth_scopes"]) == ("google", SCOPES["google"])
    assert (found["api_auth"], found["auth_keys"]) == ("oauth", "WEATHER_API_KEY")

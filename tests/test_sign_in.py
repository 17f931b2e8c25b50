"""Signing in, through the command line of a server rendered for each provider, against a fake one over real HTTP."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import copier
import pytest
from conftest import NEXT, ROOT, commit, copy_template, git
from mcp import Client, StdioServerParameters
from mcp_types import CallToolResult

Render = Callable[..., Path]


def rendered_module(name: str) -> Any:
    """A module of the rendered tests that imports nothing of the project."""
    spec = importlib.util.spec_from_file_location(name.rpartition("/")[2], ROOT / "template" / "tests" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


fake_provider = rendered_module("auth/fake_provider")
fake_api = rendered_module("fake_api")


def visiting(lines: Iterable[str], visit: Callable[[str], object]) -> str:
    """All that `login` says; `visit` is called with the address that it prints, as soon as it does."""
    said = ""
    for line in lines:
        said += line
        if found := re.fullmatch(r"\s+(http\S+)\s*", line):
            visit(found[1])
    return said


@contextmanager
def ended(process: subprocess.Popen[str], seconds: float = 120) -> Iterator[None]:
    """Kill a process when the block ends, and in any case after these seconds: nobody reads from it for ever."""
    end = threading.Timer(seconds, process.kill)
    end.start()
    try:
        with process:
            try:
                yield
            finally:
                process.kill()
    finally:
        end.cancel()


class Server:
    """A rendered server, with the environment of one person."""

    def __init__(self, project: Path, home: Path, **env: str) -> None:
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "PYTHONPATH": str(project / "src"),
            "MCP_KEYRING": "off",
            "MCP_DATA_DIR": str(home / "data"),
            "TOKEN_KEY": b64encode(bytes(range(32))).decode(),
            "OAUTH_CLIENT_ID": "client-1",
            "OAUTH_CLIENT_SECRET": "s3cret",
            **env,
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "weather_api", *arguments],
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def login(self) -> tuple[int, str]:
        """Run `login` and be the browser: open the address that it prints, and follow the redirect."""
        process = subprocess.Popen(
            [sys.executable, "-m", "weather_api", "login", "--no-browser"],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

        def visit(address: str) -> None:
            threading.Thread(target=urllib.request.urlopen, args=(address, None, 30), daemon=True).start()

        with ended(process):
            said = visiting(process.stderr or (), visit)
            return process.wait(timeout=60), said

    def call(self, tool: str, arguments: dict[str, Any]) -> CallToolResult:
        async def call() -> CallToolResult:
            parameters = StdioServerParameters(command=sys.executable, args=["-m", "weather_api"], env=self.env)
            async with Client(parameters) as client:
                return await client.call_tool(tool, arguments)

        return asyncio.run(call())


@pytest.mark.parametrize("provider", ["github", "google", "azure", "custom"])
def test_sign_in_call_the_api_and_sign_out(render: Render, tmp_path: Path, provider: str) -> None:
    style: dict[str, Any] = {"style": provider} if provider != "custom" else {}
    if provider == "azure":
        style["client_secret"] = None
    with fake_provider.running(**style) as fake, fake_api.FakeApi() as api:
        answers = {"oauth_issuer": fake.base} if provider == "custom" else {}
        project = render(oauth_provider=provider, **answers)
        secret = {"OAUTH_CLIENT_SECRET": ""} if provider == "azure" else {}
        server = Server(project, tmp_path, API_BASE_URL=api.url, OAUTH_BASE_URL=fake.base, **secret)

        before = server.call("fetch", {"path": "/items/1"})
        assert before.is_error
        assert "Not signed in. Run: weather-api login" in str(before.content)
        assert server.run("status").returncode == 1

        code, said = server.login()
        assert code == 0, said
        assert "Signed in to" in said

        status = server.run("status")
        assert (status.returncode, "signed in:   yes" in status.stdout) == (0, True), status.stdout
        fetched = server.call("fetch", {"path": "/items/1"})
        assert not fetched.is_error, fetched.content
        sent = api.requests[-1][1]["authorization"].removeprefix("Bearer ")
        assert sent in fake.access

        health = server.call("health_check", {}).structured_content
        assert health is not None
        assert (health["ready"], health["sign_in"]["signed_in"]) == (True, True)

        out = server.run("logout")
        assert out.returncode == 0
        assert server.run("status").returncode == 1
        everything = said + status.stdout + status.stderr + out.stdout + out.stderr + str(health)
        assert not [value for value in fake.secret_values if value in everything]
        for path in (tmp_path / "data").rglob("*"):
            if path.is_file():
                assert not [value for value in fake.secret_values if value.encode() in path.read_bytes()]


BASIC = "client_secret_basic"
OTHER_PROVIDERS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "basic-by-its-metadata": (
        {"client_auth": (BASIC,), "metadata": {"token_endpoint_auth_methods_supported": ["private_key_jwt", BASIC]}},
        {"oauth_issuer": "{}"},
    ),
    "basic-by-urls-with-audience": (
        {"client_auth": (BASIC,), "required": {"audience": "https://api.example.com/", "tenant": "a b"}},
        {
            "oauth_issuer": "",
            "oauth_authorization_url": "{}/authorize?tenant=a%20b",
            "oauth_token_url": "{}/token",
            "oauth_client_auth": "basic",
            "oauth_authorize_params": "prompt=consent audience=https://api.example.com/",
        },
    ),
    "text-plain-and-nulls": (
        {"label": "text/plain", "more": {"error": None, "scope": None}},
        {"oauth_issuer": "{}"},
    ),
}


@pytest.mark.parametrize("kind", OTHER_PROVIDERS)
def test_other_providers_sign_in_renew_and_sign_out(render: Render, tmp_path: Path, kind: str) -> None:
    """In three processes: each knows from the one before how the provider is spoken to."""
    options, answers = OTHER_PROVIDERS[kind]
    with fake_provider.running(**options) as fake, fake_api.FakeApi() as api:
        given = {name: answer.format(fake.base) for name, answer in answers.items()}
        server = Server(render(oauth_provider="custom", **given), tmp_path, API_BASE_URL=api.url)
        fake.expires_in = 1
        code, said = server.login()
        assert code == 0, said
        time.sleep(1)  # for the token to expire
        fake.expires_in = 3600
        fetched = server.call("fetch", {"path": "/items/1"})
        assert not fetched.is_error, fetched.content
        assert (fake.refreshes, fake.reuses) == (1, 0)
        assert server.run("logout").returncode == 0
        assert len(fake.revoked) == bool(given["oauth_issuer"])  # by URLs, none is known

        # One without the sign-in the provider knows: it has to lead to `login`.
        fake.expires_in = 1
        assert server.login()[0] == 0
        fake.live.clear()
        time.sleep(1)
        refused = server.call("fetch", {"path": "/items/1"})
        assert "Run: weather-api login" in str(refused.content)
        agents = {agent for agent in fake.agents if "urllib" not in agent}  # the browser's
        assert agents == {"weather-api/0.0.0"}


def test_without_a_place_for_the_key_login_stops_before_the_browser(render: Render, tmp_path: Path) -> None:
    server = Server(render(oauth_provider="github"), tmp_path, TOKEN_KEY="", PYTHON_KEYRING_BACKEND="none")
    code, said = server.login()
    assert (code, said.count("\n")) == (2, 1)
    assert "TOKEN_KEY" in said
    assert "--insecure-plaintext-storage" in said
    assert "http" not in said


def test_auth_is_the_same_bytes_in_every_project_that_has_it(render: Render) -> None:
    projects = [render(oauth_provider="github"), render(server_name="Another", oauth_provider="azure")]
    one, other = (next(project.glob("src/*/auth")) for project in projects)
    names = sorted(path.name for path in one.glob("*.py"))
    assert "pkce.py" in names
    assert names == sorted(path.name for path in other.glob("*.py"))
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_the_provider_can_change_and_the_users_files_stay(template: Path, tmp_path: Path) -> None:
    project = copy_template(template, tmp_path / "weather-api", {})
    tool = project / "src" / "weather_api" / "tools" / "mine.py"
    tool.write_text("MINE = True\n")
    commit(project)
    auth, tests = project / "src" / "weather_api" / "auth", project / "tests" / "auth"
    for provider, there in (("github", True), ("google", True), ("none", False)):
        copier.run_update(
            project,
            data={"oauth_provider": provider, "auth_keys": "", "api_auth": "oauth" if there else "none"},
            vcs_ref=copier.VcsRef.CURRENT,
            defaults=True,
            overwrite=True,
            quiet=True,
            unsafe=True,
            settings=copier.Settings(),
        )
        assert git(project, "ls-files", "--unmerged") == ""
        assert (auth.joinpath("pkce.py").is_file(), tests.joinpath("test_login.py").is_file()) == (there, there)
        answers = project / "src" / "weather_api" / "answers.py"
        assert (f'OAUTH_PROVIDER: Final[str] = "{provider}"' in answers.read_text()) == there
        commit(project)
    assert tool.read_text() == "MINE = True\n"
    assert f"_commit: {NEXT}" in (project / ".copier-answers.yml").read_text()

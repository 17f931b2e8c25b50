"""The samples of the authentication guide, as they stand but for their imports and the API's address."""

from __future__ import annotations

import asyncio
import json
import runpy
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from mcp import Client, StdioServerParameters
from mcp_types import CallToolResult, TextContent

Render = Callable[..., Path]

IMPORTS = """\
import base64

import httpx

from weather_api.app import mcp
from weather_api.credentials import AUTH_CONFIG, require_auth

"""

API_KEY = '''\
@mcp.tool()
def get_weather(city: str) -> dict:
    """Get weather for a city."""
    api_key = require_auth("WEATHER_API_KEY")
    response = httpx.get(
        "https://api.weather.com/v1/current",
        headers={"X-API-Key": api_key},
        params={"city": city}
    )
    return response.json()
'''

BEARER = '''\
@mcp.tool()
def get_protected_data() -> dict:
    """Get data from protected endpoint."""
    token = require_auth("BEARER_TOKEN")
    response = httpx.get(
        "https://api.weather.com/v1/protected",
        headers={"Authorization": f"Bearer {token}"}
    )
    return response.json()
'''

BASIC = '''\
@mcp.tool()
def get_legacy_data() -> dict:
    """Get data from legacy API."""
    username = require_auth("API_USERNAME")
    password = require_auth("API_PASSWORD")

    credentials = base64.b64encode(f"{username}:{password}".encode()).decode()

    response = httpx.get(
        "https://api.weather.com/v1/data",
        headers={"Authorization": f"Basic {credentials}"}
    )
    return response.json()
'''

STATUS = '''\
@mcp.tool()
def auth_status() -> dict:
    """The loop of the guide's health check."""
    auth_status = {}
    for key in AUTH_CONFIG:
        auth_status[key] = "configured" if AUTH_CONFIG[key] else "missing"
    return auth_status
'''

KEYS = ("WEATHER_API_KEY", "BACKUP_API_KEY", "BEARER_TOKEN", "API_USERNAME", "API_PASSWORD")


@pytest.fixture(scope="module")
def fake_api() -> Iterator[Any]:
    with runpy.run_path(str(ROOT / "template" / "tests" / "fake_api.py"))["FakeApi"]() as api:
        yield api


@pytest.fixture(scope="module")
def project(render: Render, fake_api: Any) -> Path:
    project = render(folder="guide", server_name="Weather API", auth_keys=" ".join(KEYS))
    samples = IMPORTS + "\n".join([API_KEY, BEARER, BASIC, STATUS])
    samples = samples.replace("https://api.weather.com/v1", fake_api.url)
    (project / "src" / "weather_api" / "tools" / "guide.py").write_text(samples)
    return project


def call(project: Path, tool: str, arguments: dict[str, Any], **env: str) -> CallToolResult:
    """Call a tool over stdio, with this environment and hardly anything else."""
    source = {"PYTHONPATH": str(project / "src"), "MCP_KEYRING": "off"}
    server = StdioServerParameters(command=sys.executable, args=["-m", "weather_api"], env={**source, **env})

    async def call() -> CallToolResult:
        async with Client(server) as client:
            return await client.call_tool(tool, arguments)

    return asyncio.run(call())


@pytest.mark.parametrize(
    ("tool", "env", "header", "value"),
    [
        ("get_weather", {"WEATHER_API_KEY": "the-key"}, "x-api-key", "the-key"),
        ("get_protected_data", {"BEARER_TOKEN": "the-token"}, "authorization", "Bearer the-token"),
        (
            "get_legacy_data",
            {"API_USERNAME": "me", "API_PASSWORD": "pass word"},
            "authorization",
            "Basic " + b64encode(b"me:pass word").decode(),
        ),
    ],
)
def test_a_sample_sends_its_credential(
    project: Path, fake_api: Any, tool: str, env: dict[str, str], header: str, value: str
) -> None:
    result = call(project, tool, {"city": "Kyiv"} if tool == "get_weather" else {}, **env)
    assert not result.is_error, result.content
    assert fake_api.requests[-1][1][header] == value


def test_a_missing_credential_is_told_in_the_guides_words(project: Path) -> None:
    result = call(project, "get_weather", {"city": "Kyiv"})
    assert result.is_error
    (content,) = result.content
    assert isinstance(content, TextContent)
    words = "Missing required auth: WEATHER_API_KEY. Set WEATHER_API_KEY environment variable."
    assert content.text.startswith(words)


def test_health_check_has_the_guides_fields_and_values(project: Path) -> None:
    health = call(project, "health_check", {}, WEATHER_API_KEY="x").structured_content
    assert health is not None
    assert {"status", "timestamp", "auth_config"} <= set(health)
    assert health["status"] == "healthy"
    assert health["auth_config"] == {**dict.fromkeys(KEYS, "missing"), "WEATHER_API_KEY": "configured"}
    looped = call(project, "auth_status", {}, WEATHER_API_KEY="x")
    assert isinstance(looped.content[0], TextContent)
    assert json.loads(looped.content[0].text) == health["auth_config"]


def test_an_environment_file_for_development(project: Path, tmp_path: Path) -> None:
    (tmp_path / ".env.development").write_text("WEATHER_API_KEY=dev-key-xxxxx\n")
    env = {"PYTHONPATH": str(project / "src"), "MCP_KEYRING": "off", "ENV_FILE": str(tmp_path / ".env.development")}
    done = subprocess.run(
        [sys.executable, "-m", "weather_api", "secrets"],
        env=env,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[0].split() == ["WEATHER_API_KEY", env["ENV_FILE"]]
    assert "dev-key" not in done.stdout + done.stderr

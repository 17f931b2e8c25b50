"""A key that cannot be sent: `secrets`, `/ready`, `health_check` and the tools tell the same story."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from conftest import ServerProcess
from mcp import Client
from pkg import answers

Run = Callable[..., subprocess.CompletedProcess[str]]
Serve = Callable[..., ServerProcess]

TRAVELS = answers.API_AUTH in ("header", "bearer", "query")


@pytest.mark.skipif(not TRAVELS, reason="no key of this server travels by itself, or it may have blanks (HTTP Basic)")
@pytest.mark.anyio
async def test_all_four_tell_of_it_and_of_its_mending(serve: Serve, run: Run, tmp_path: Path) -> None:
    name = answers.AUTH_KEYS[0]
    path = tmp_path / "key"
    path.write_text("sentinel \n")
    env = {name: "", f"{name}_FILE": str(path)}
    server = serve(**env)

    async def stories() -> tuple[str, list[str], str, str]:
        listed = run("secrets", **env).stdout.splitlines()[0].split(maxsplit=1)[1]
        ready = httpx.get(f"{server.url}/ready").json().get("reasons", [])
        async with Client(f"{server.url}/mcp") as client:
            health = (await client.call_tool("health_check")).structured_content
            fetched = await client.call_tool("probe_fetch", {"path": "/items/1"})
        assert health is not None
        problems = [line for line in health["problems"] if line.startswith(name)]
        refusal = getattr(fetched.content[0], "text", "") if fetched.is_error else ""
        return listed, [line for line in ready if line.startswith(name)], "".join(problems), refusal

    said = f"{name} ({path}) begins or ends with a blank, or is in quotation marks. Set it again."
    assert await stories() == (said, [f"{name}: unreadable"], f"{name}: {said}", said)
    path.write_text("sentinel\n")
    assert await stories() == (str(path), [], "", "")
    assert "sentinel" not in "".join(server.log)

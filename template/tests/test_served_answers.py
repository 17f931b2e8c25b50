"""From the API through a server to the client: every answer arrives, and ten large ones leave the server standing."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import HERE, VALUES, ServerProcess
from fake_api import FakeApi
from mcp import Client, StdioServerParameters
from mcp_types import TextContent
from pkg import api_answers, settings

pytestmark = pytest.mark.anyio

ODD = {
    "surrogates": b'{"\\ud800key": ["\\udfff", "\\ud83d\\ude00"]}',
    "numbers": b"[NaN, 1e999, -Infinity, 1e308, 0.1, -0.0, " + b"7" * 4000 + b"]",
    "long": b"[" + b"9" * 5000 + b"]",
    "deep": b"[" * 600 + b"]" * 600,
    "deepest": b'{"a":' * 99 + b"[1]" + b"}" * 99,
    "separators": '["\u2028\u2029\x85", "\\u0000\\u001b\\r\\n", "\x7f"]'.encode(),
    "latin": b'["Z\xfcrich"]',
    "twice": b'{"a": 1, "a": 2}',
    "null": b"null",
    "empty": b"",
    "text": b'"plain"',
    "number": b"1.5",
    "whole": b"12345678901234567890123",
    "truth": b"true",
    "list": b'["a", {"b": [1]}]',
    "large": b'["' + b"x" * 490_000 + b'"]',
}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("way", ["stdio", "http"])
async def test_every_answer_reaches_the_client(
    serve: Callable[..., ServerProcess], process_env: dict[str, str], fake_api: FakeApi, way: str, mode: str
) -> None:
    for name, body in ODD.items():
        fake_api.prepare(f"/odd/{name}", body)
    env = {**process_env, **VALUES, "API_BASE_URL": fake_api.url}
    target: Any = StdioServerParameters(command=sys.executable, args=[str(HERE / "probe_server.py")], env=env)
    server = None
    if way == "http":
        server = serve()
        target = f"{server.url}/mcp"
    async with Client(target, mode=mode) as session:
        for tool in ("probe_fetch", "probe_typed"):
            for name, body in ODD.items():
                result = await session.call_tool(tool, {"path": f"/odd/{name}"})
                texts = [block.text for block in result.content if isinstance(block, TextContent)]
                if name in ("long", "deep"):
                    assert result.is_error
                    assert texts[0].startswith("The API's answer"), name
                    continue
                assert not result.is_error, (name, texts)
                if tool == "probe_typed":
                    value = (result.structured_content or {})["value"]
                    assert json.loads(texts[0])["value"] == value
                else:
                    assert len(texts) <= 1  # one block, whatever it is
                    value = texts[0] if name == "text" else json.loads(texts[0]) if texts else None
                assert value == api_answers.decoded_json(httpx.Response(200, content=body)), name
    if server:
        server.stop()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process's memory is read from /proc")
async def test_ten_large_answers_at_once_leave_the_container_standing(
    serve: Callable[..., ServerProcess], fake_api: FakeApi
) -> None:
    """With the default of API_MAX_BYTES, in the 512 MB of docker-compose.yml."""
    size = settings.DEFAULT_MAX_BYTES
    packer = zlib.compressobj(wbits=31)
    bomb = b"".join(packer.compress(bytes(1_000_000)) for _ in range(100)) + packer.flush()
    fake_api.prepare("/100-mb", bomb, Content_Encoding="gzip")
    largest = ("[" + ",".join(['{"a":1}'] * (size // 8 - 1)) + "]").encode()
    fake_api.prepare("/largest", gzip.compress(largest), Content_Encoding="gzip")
    server = serve()

    async def call(tool: str, path: str) -> bool:
        async with Client(f"{server.url}/mcp") as session:
            return (await session.call_tool(tool, {"path": path})).is_error is True

    for tool, path in (("probe_fetch", "/100-mb"), ("probe_hold", "/largest")):
        failed = await asyncio.gather(*[call(tool, path) for _ in range(10)])
        assert failed == [path == "/100-mb"] * 10
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert peak is not None
    assert int(peak[1]) < 450_000
    server.stop()

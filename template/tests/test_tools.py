"""What clients learn about the server and its tools, and how a tool's JSON reaches them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import SOURCE
from mcp import Client
from mcp_types import TextContent
from pkg import answers, app, errors, tools

pytestmark = pytest.mark.anyio

PACKAGE = answers.__name__.partition(".")[0]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_checking_health_changes_nothing_and_stays_here(mode: str) -> None:
    async with Client(app.mcp, mode=mode) as client:
        [tool] = [tool for tool in (await client.list_tools()).tools if tool.name == "health_check"]
    assert tool.title == "Server health"
    assert tool.annotations is not None
    assert (tool.annotations.read_only_hint, tool.annotations.open_world_hint) == (True, False)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_owner_s_instructions_reach_the_client(mode: str) -> None:
    async with Client(app.mcp, mode=mode) as client:
        assert client.instructions == getattr(tools, "INSTRUCTIONS", None)


@pytest.mark.parametrize(
    ("init", "instructions"),
    [
        ('INSTRUCTIONS = "Mine."\n', "Mine."),
        ("", None),  # a project that is older than the constant
        ("from ..app import mcp\n\n\n@mcp.tool()\ndef own() -> str:\n    return ''\n", None),
    ],
)
def test_tools_of_any_age_are_loaded(tmp_path: Path, init: str, instructions: str | None) -> None:
    shutil.copytree(SOURCE / PACKAGE, tmp_path / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / PACKAGE / "tools" / "__init__.py").write_text(init)
    program = f"from {PACKAGE} import app, server; server.load_tools(); print(repr(app.mcp.instructions))"
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, timeout=60
    )
    assert (done.stderr, done.stdout) == ("", f"{instructions!r}\n")


# ---------------------------------------------------------------- JSON


async def untyped(value: str) -> Any:
    """JSON, whatever it is."""
    return json.loads(value)


def plain(value: str) -> Any:
    """The same in a thread."""
    return json.loads(value)


async def mapping(value: str) -> dict[str, Any]:
    """An object."""
    return dict(json.loads(value))


async def listing(value: str) -> list[dict[str, Any]]:
    """A list."""
    return list(json.loads(value))


async def numbers(value: str) -> list[int]:
    """A list that the SDK converts."""
    return list(json.loads(value))


async def text_only(value: str) -> dict[str, Any]:
    """An object, without structured content."""
    return dict(json.loads(value))


async def blocks(value: str) -> Any:
    """Content of the SDK's own."""
    return [TextContent(text="a"), TextContent(text="b")]


@pytest.fixture
def own() -> app.Server:
    own = app.Server(name="own")
    for fn in (untyped, plain, mapping, listing, numbers, blocks):
        own.add_tool(fn)
    own.tool(structured_output=False)(text_only)
    return own


async def call(own: app.Server, tool: str, value: object) -> tuple[list[str], Any]:
    async with Client(own) as client:
        result = await client.call_tool(tool, {"value": json.dumps(value)})
    assert not result.is_error, result
    return [block.text for block in result.content if isinstance(block, TextContent)], result.structured_content


@pytest.mark.parametrize("tool", ["untyped", "plain"])
@pytest.mark.parametrize("value", [[1, 2, [3]], {"a": [1, {"b": "ü"}]}, [], {}])
async def test_json_is_one_compact_text(own: app.Server, tool: str, value: Any) -> None:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    assert await call(own, tool, value) == ([text], None)


async def test_structured_content_stays_beside_it(own: app.Server) -> None:
    assert await call(own, "mapping", {"a": [1]}) == (['{"a":[1]}'], {"a": [1]})
    assert await call(own, "listing", [{"a": 1}, {}]) == (['[{"a":1},{}]'], {"result": [{"a": 1}, {}]})


async def test_what_the_sdk_converts_is_left_to_it(own: app.Server) -> None:
    assert await call(own, "numbers", [1, 2]) == (["1", "2"], {"result": [1, 2]})
    assert await call(own, "text_only", {"a": 1}) == (['{\n  "a": 1\n}'], None)
    assert await call(own, "blocks", 0) == (["a", "b"], None)
    assert await call(own, "untyped", [float("nan"), 1]) == (["NaN", "1"], None)  # no JSON
    assert await call(own, "untyped", 1.5) == (["1.5"], None)
    assert await call(own, "untyped", None) == ([], None)


async def test_an_argument_keeps_its_description_and_type(own: app.Server) -> None:
    async with Client(own) as client:
        listed = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert listed["untyped"].description == "JSON, whatever it is."
    assert listed["plain"].input_schema["properties"]["value"]["type"] == "string"
    assert listed["untyped"].output_schema is None
    assert listed["mapping"].output_schema is not None


@pytest.mark.parametrize("size", [999_000, 1_001_000])
@pytest.mark.parametrize(
    ("tool", "letter", "bytes_each"), [("untyped", "x", 1), ("untyped", '"', 4), ("mapping", "ü", 4)]
)
async def test_a_result_that_clients_would_drop_is_one_line(
    own: app.Server, tool: str, letter: str, bytes_each: int, size: int
) -> None:
    """A quote is escaped twice on the way, and structured content goes out beside the text."""
    async with Client(own) as client:
        result = await client.call_tool(tool, {"value": json.dumps({"a": letter * (size // bytes_each)})})
    assert result.is_error == (size > app.MAX_RESULT_BYTES)
    assert ("more than 1 MB" in str(result.content)) == (size > app.MAX_RESULT_BYTES)


@pytest.mark.parametrize("error", [RuntimeError, OSError, PermissionError, ValueError, KeyError, TimeoutError])
async def test_of_other_errors_the_model_reads_no_word(own: app.Server, error: type[Exception]) -> None:
    """Such a message may quote a header, a path or a body."""

    async def crash(value: str) -> Any:
        raise error("https://api.example.com/?key=sentinel")

    own.add_tool(crash)
    async with Client(own) as client:
        result = await client.call_tool("crash", {"value": ""})
    assert result.is_error
    assert result.content == [TextContent(text="Error executing tool crash")]


async def test_an_error_of_this_server_is_read_to_the_letter(own: app.Server) -> None:
    async def refuse(value: str) -> Any:
        raise errors.CredentialError("KEY is missing. Set it.")

    own.add_tool(refuse)
    async with Client(own) as client:
        result = await client.call_tool("refuse", {"value": ""})
    assert result.is_error
    assert result.content == [TextContent(text="KEY is missing. Set it.")]

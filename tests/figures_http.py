"""Calls of `health_check` over HTTP: how many a second, how long the slowest take, and in how much memory."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from figures_kit import TOKEN, Figures, finish, in_turn, peak_memory

CALLS, CONNECTIONS = 200, 8  # in a round; short rounds, so that a disturbance meets both sides of a ratio
CORES = sorted(os.sched_getaffinity(0))

# What a client sends for each call.
BODY = (
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"health_check","arguments":{},"_meta":'
    '{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},'
    '"io.modelcontextprotocol/clientInfo":{"name":"figures","version":"1"}}}}'
)
CALL = (
    f"POST /mcp HTTP/1.1\r\nHost: localhost:8000\r\nContent-Type: application/json\r\nContent-Length: {len(BODY)}\r\n"
    "Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\n"
    f"Mcp-Name: health_check\r\nAuthorization: Bearer {TOKEN}\r\n\r\n{BODY}"
)


def calls(figures: Figures, rounds: int) -> None:
    """Calls of `health_check` over HTTP, against a bare server and one of fastmcp."""
    wanted = {"bare": [], "silent": ["--no-access-log"], "open": ["--port=0"], "bearer": ["--port=0"]}
    programs = {"bare": "bare", "silent": "bare", "open": "weather-api", "bearer": "weather-api"}
    if figures.fastmcp:
        wanted["fastmcp"], programs["fastmcp"] = ["--no-access-log"], "fastmcp"
    with ExitStack() as stack:
        served = {
            name: stack.enter_context(serving(figures, programs[name], f"{name}.log", *arguments))
            for name, arguments in wanted.items()
        }
        columns = in_turn(rounds, *(server.measure for server in served.values()))
        memory = {name: server.memory() for name, server in served.items()}
    measured = dict(zip(served, columns, strict=True))
    slowest = {name: server.slowest() for name, server in served.items()}
    print(f"  {len(served['open'].latencies)} calls each, on {CONNECTIONS} connections")
    # The rendered server logs no accesses, uvicorn by default does: "silent" shows what is left without that.
    titles = {"bare": "bare", "silent": "bare, no access log", "fastmcp": "fastmcp, no access log"}
    for name, title in titles.items():
        if name not in measured:
            continue
        rate, tail, bearer = (">= 1.0", "<= 0.4", ">= 0.95") if name == "bare" else ("", "", "")
        print(f" against {title}")
        figures.ratio("calls/s", measured[name][0], measured["open"][0], rate)
        figures.ratio("calls/s with bearer", measured[name][0], measured["bearer"][0], bearer)
        figures.ratio("CPU ms a call", measured[name][1], measured["open"][1])
        figures.ratio("ms of the slowest 0.3 %", [slowest[name]], [slowest["open"]], tail)
        figures.ratio("ms of them with bearer", [slowest[name]], [slowest["bearer"]])
        figures.ratio("peak RSS, MiB", [memory[name]], [memory["open"]])


class Served:
    """A server that answers calls, and what they took."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self._port = port
        # clock_getcpuclockid(3): the CPU clock of another process.
        self._clock = (~process.pid << 3) | 2
        self.latencies: list[float] = []  # in milliseconds

    def measure(self) -> Sequence[float]:
        """Calls a second and CPU milliseconds a call, of one round."""
        cpu = time.clock_gettime(self._clock)
        began = time.perf_counter()
        asyncio.run(send_calls(self._port, self.latencies))
        seconds = time.perf_counter() - began
        return CALLS / seconds, (time.clock_gettime(self._clock) - cpu) / CALLS * 1000

    def memory(self) -> float:
        return peak_memory(self._process)

    def slowest(self) -> float:
        """p99.7 of all calls, in milliseconds."""
        return sorted(self.latencies)[int(len(self.latencies) * 0.997)]


@contextmanager
def serving(figures: Figures, name: str, log: str, *arguments: str) -> Iterator[Served]:
    """A server on the first core, while the client has the last."""
    os.sched_setaffinity(0, CORES[:1])
    process = figures.server(name, log, "serve", "--http", *arguments)
    os.sched_setaffinity(0, CORES[-1:])
    try:
        said, deadline = figures.folder / log, time.monotonic() + 60
        while not (found := re.search(r"Serving http://[0-9.]+:(\d+)/mcp", said.read_text())):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(said.read_text())
            time.sleep(0.1)
        yield Served(process, int(found[1]))
    finally:
        process.kill()
        finish(process)
        os.sched_setaffinity(0, CORES)


async def send_calls(port: int, latencies: list[float]) -> None:
    """Calls on connections that stay open, one after the other on each."""

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(CALLS // CONNECTIONS):
            began = time.perf_counter()
            writer.write(CALL.encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            answer = json.loads(await reader.readexactly(int(length[1]) if length else 0) or b"null")
            latencies.append((time.perf_counter() - began) * 1000)
            if answer["result"]["structuredContent"]["auth_config"] != {"WEATHER_API_KEY": "configured"}:
                raise RuntimeError(f"{head!r} {answer}")
        writer.close()

    async with asyncio.timeout(60):
        await asyncio.gather(*(connection() for _ in range(CONNECTIONS)))

"""Prints how the template and a rendered server compare with baselines; exits 1 if a figure is out of its bound.

    .venv/bin/python tests/figures.py [copy] [start] [token] [calls] [packages]

Each figure is a ratio to a baseline that is measured in turn with it: the median of the ratios of all turns, with the
lowest and the highest. Linux only: CPU time and memory of other processes come from the kernel's counters. CPU time is
steadier than wall time where other work disturbs. No part of the tests: a busy machine would fail them.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from statistics import median

from conftest import ROOT, commit, git, working_tree
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

COPIES, STARTS, ROUNDS = 9, 15, 41
CALLS, CONNECTIONS = 200, 8  # in a round; short rounds, so that a disturbance meets both sides of a ratio
TOKEN = "made-up-for-the-figures"
CORES = sorted(os.sched_getaffinity(0))

# What a client sends on stdio, and over HTTP for each call.
HELLO = (
    '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},'
    '"clientInfo":{"name":"figures","version":"1"}}}',
    '{"jsonrpc":"2.0","method":"notifications/initialized"}\n{"jsonrpc":"2.0","id":2,"method":"tools/list"}',
)
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


class Figures:
    """What the figures need, and whether all so far are within their bounds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.within = True
        (folder / "home").mkdir()
        (folder / "home" / ".gitconfig").write_text("[user]\nname = Tester\nemail = tester@example.com\n")
        os.environ |= {"HOME": str(folder / "home"), "GIT_CONFIG_NOSYSTEM": "1"}
        self.environment = {name: os.environ[name] for name in ("PATH", "HOME", "GIT_CONFIG_NOSYSTEM")}
        # Packed, as a template that was cloned from a host is.
        git(working_tree(folder / "template"), "gc", "--quiet")
        self.copy("template", folder / "weather-api")
        self.copy("template", folder / "signed-in", server_name="Signed In", oauth_provider="github", auth_keys="")
        self.cached_token("sign-in")
        (folder / "bare").mkdir()
        shutil.copy(ROOT / "tests" / "bare_server.py", folder / "bare" / "bare.py")

    def start(self, command: list[str], log: str, stdin: int | None = None, **more: str) -> subprocess.Popen[bytes]:
        """Start Python. Its standard output goes to a pipe if its input comes from one, all else to `log`."""
        with (self.folder / log).open("wb") as file:
            return subprocess.Popen(
                [sys.executable, "-W", "ignore", *command],
                env=self.environment | more,
                stdin=stdin or subprocess.DEVNULL,
                stdout=stdin or file,
                stderr=file,
            )

    def server(self, name: str, log: str, *arguments: str, stdin: int | None = None) -> subprocess.Popen[bytes]:
        """Start the server `bare`, `weather-api` with its key, or `signed-in` with a stored sign-in."""
        path = self.folder / name / ("" if name == "bare" else "src")
        more = {"PYTHONPATH": str(path)} | (self.signed_in() if name == "signed-in" else {"WEATHER_API_KEY": "made-up"})
        more |= {"MCP_BEARER_TOKENS": TOKEN} if "bearer" in log else {}
        return self.start(["-m", name.replace("-", "_"), *arguments], log, stdin, **more)

    def signed_in(self) -> dict[str, str]:
        """The environment of the server `signed-in`."""
        key = base64.b64encode(bytes(32)).decode()
        return {"TOKEN_KEY": key, "OAUTH_CLIENT_ID": "made-up", "MCP_DATA_DIR": str(self.folder / "data")}

    def cached_token(self, *arguments: str) -> str:
        """Run cached_token.py with the server `signed-in` and return what it prints."""
        environment = self.environment | self.signed_in() | {"PYTHONPATH": str(self.folder / "signed-in" / "src")}
        command = [sys.executable, str(ROOT / "tests" / "cached_token.py"), *arguments]
        return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout

    def copy(self, template: str, destination: Path, **data: str) -> Sequence[float]:
        """CPU and wall seconds of `copier copy`."""
        shutil.rmtree(destination, ignore_errors=True)
        data = data or {"server_name": "Weather Api", "auth_keys": "WEATHER_API_KEY"}
        answers = [word for name, value in data.items() for word in ("--data", f"{name}={value}")]
        source = str(self.folder / template)
        began = time.perf_counter()
        process = self.start(
            ["-m", "copier", "copy", "--trust", "--defaults", *answers, source, str(destination)], "copy.log"
        )
        cpu = finish(process)
        if process.returncode or not (destination / "README.md").is_file():
            raise RuntimeError((self.folder / "copy.log").read_text())
        return cpu, time.perf_counter() - began

    def ratio(self, name: str, baseline: Sequence[float], ours: Sequence[float], bound: str = "") -> None:
        """Print the ratio of two columns. Without a bound, such as "<= 1.3", it is for information."""
        ratios = [new / old for old, new in zip(baseline, ours, strict=True)]
        text = f"x  ({min(ratios):.3f} to {max(ratios):.3f}; medians {median(ours):.4g} and {median(baseline):.4g})"
        self.line(name, median(ratios), text, bound)

    def line(self, name: str, value: float, text: str, bound: str) -> None:
        within = not bound or (value <= float(bound[3:]) if bound[0] == "<" else value >= float(bound[3:]))
        self.within &= within
        verdict = bound and f"{bound} {'within' if within else 'OUT OF BOUNDS'}"
        print(f"  {name:<36} {value:6.3f} {text:<62} {verdict}".rstrip(), flush=True)


def finish(process: subprocess.Popen[bytes]) -> float:
    """Wait for the end of a process and return its CPU seconds, with those of the processes it waited for."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


def in_turn(turns: int, *measures: Callable[[], Sequence[float]]) -> list[list[Sequence[float]]]:
    """For each measure its columns of numbers, one number a turn. A turn beforehand fills caches; the order alternates,
    so that drift cancels."""
    rows: list[list[Sequence[float]]] = [[] for _ in measures]
    for turn in range(-1, turns):
        for measure, row in list(zip(measures, rows, strict=True))[:: -1 if turn % 2 else 1]:
            numbers = measure()
            if turn >= 0:
                row.append(numbers)
    return [list(zip(*row, strict=True)) for row in rows]


def copy(figures: Figures) -> None:
    """`copier copy`, against a template of one file with the same extension."""
    small = figures.folder / "small"
    shutil.copytree(ROOT / "extensions", small / "extensions", ignore=shutil.ignore_patterns("__pycache__"))
    (small / "template").mkdir()
    (small / "template" / "README.md.jinja").write_text("# {{ server_name | literal }}\n")
    (small / "copier.yml").write_text(
        "_subdirectory: template\nserver_name:\n  type: str\nauth_keys:\n  type: str\n_jinja_extensions:\n"
        "  - copier_template_extensions.TemplateExtensionLoader\n  - extensions/answers.py:Answers\n"
    )
    commit(small, "Template")
    git(small, "tag", "v1.0.0")
    git(small, "gc", "--quiet")
    one, ours = in_turn(
        COPIES, *(lambda it=it: figures.copy(it, figures.folder / "copied" / it) for it in ("small", "template"))
    )
    figures.ratio("CPU seconds", one[0], ours[0], "<= 1.3")
    figures.ratio("wall seconds", one[1], ours[1], "<= 1.3")


def start(figures: Figures) -> None:
    """Cold start, spawn to `tools/list` answered over stdio, with a key and with a sign-in, against a bare server."""

    def measure(name: str) -> Sequence[float]:
        began = time.perf_counter()
        with figures.server(name, f"{name}.log", stdin=subprocess.PIPE) as process:
            assert process.stdin
            assert process.stdout
            for message in HELLO:
                process.stdin.write(message.encode() + b"\n")
                process.stdin.flush()
                answer = process.stdout.readline()
            seconds = time.perf_counter() - began
            # Not ru_maxrss: it begins with the peak of the process that forked, which is this one.
            peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
            process.kill()  # so that the shutdown does not count
            cpu = finish(process)
        if b'"health_check"' not in answer or not peak:
            raise RuntimeError((figures.folder / f"{name}.log").read_text())
        return cpu, int(peak[1]) / 1024, seconds

    names = ("bare", "weather-api", "signed-in")
    bare, key, sign_in = in_turn(STARTS, *(lambda name=name: measure(name) for name in names))
    for title, ours, bound in (("with a key", key, "<= 1.10"), ("with a sign-in", sign_in, "<= 1.12")):
        figures.ratio(f"CPU seconds {title}", bare[0], ours[0], bound)
        figures.ratio(f"peak RSS, MiB {title}", bare[1], ours[1], bound)
        figures.ratio(f"wall seconds {title}", bare[2], ours[2])


def token(figures: Figures) -> None:
    """`get_token()` while the token is fresh, against an awaited no-op, in nanoseconds."""
    rounds = [[float(word) for word in line.split()] for line in figures.cached_token().splitlines()]
    no_op, ours = zip(*rounds, strict=True)
    figures.ratio("nanoseconds", no_op, ours, "<= 5.0")


def calls(figures: Figures) -> None:
    """Calls of `health_check` over HTTP, against a bare server."""
    with ExitStack() as stack:
        bare, silent, ours, bearer = in_turn(
            ROUNDS,
            stack.enter_context(serving(figures, "bare", "bare.log")),
            stack.enter_context(serving(figures, "bare", "silent.log", "--no-access-log")),
            stack.enter_context(serving(figures, "weather-api", "open.log", "--port=0")),
            stack.enter_context(serving(figures, "weather-api", "bearer.log", "--port=0")),
        )
    # The rendered server logs no accesses, uvicorn by default does: the second pair shows what is left without that.
    for title, baseline, bounds in (("", bare, (">= 0.95", ">= 0.90")), (", no access log", silent, ("", ""))):
        figures.ratio(f"calls/s{title}", baseline[0], ours[0], bounds[0])
        figures.ratio("  CPU ms a call", baseline[1], ours[1])
        figures.ratio(f"calls/s with bearer{title}", baseline[0], bearer[0], bounds[1])
        figures.ratio("  CPU ms a call", baseline[1], bearer[1])


@contextmanager
def serving(figures: Figures, name: str, log: str, *arguments: str) -> Iterator[Callable[[], Sequence[float]]]:
    """A server on the first core, while the client has the last: what it gives measures calls/s and CPU ms a call."""
    os.sched_setaffinity(0, CORES[:1])
    process = figures.server(name, log, "serve", "--http", *arguments)
    os.sched_setaffinity(0, CORES[-1:])
    # clock_getcpuclockid(3): the CPU clock of another process.
    clock = (~process.pid << 3) | 2
    try:
        said, deadline = figures.folder / log, time.monotonic() + 60
        while not (found := re.search(r"Serving http://[0-9.]+:(\d+)/mcp", said.read_text())):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(said.read_text())
            time.sleep(0.1)

        def measure() -> Sequence[float]:
            cpu, began = time.clock_gettime(clock), time.perf_counter()
            asyncio.run(send_calls(int(found[1])))
            return CALLS / (time.perf_counter() - began), (time.clock_gettime(clock) - cpu) / CALLS * 1000

        yield measure
    finally:
        process.terminate()
        process.wait()
        os.sched_setaffinity(0, CORES)


async def send_calls(port: int) -> None:
    """Calls on connections that stay open, one after the other on each."""

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(CALLS // CONNECTIONS):
            writer.write(CALL.encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            answer = json.loads(await reader.readexactly(int(length[1]) if length else 0) or b"null")
            if answer["result"]["structuredContent"]["auth_config"] != {"WEATHER_API_KEY": "configured"}:
                raise RuntimeError(f"{head!r} {answer}")
        writer.close()

    await asyncio.gather(*(connection() for _ in range(CONNECTIONS)))


def packages(figures: Figures) -> None:
    """Packages that a rendered server installs on this platform."""

    def closure(requirements: list[Requirement]) -> set[str]:
        seen: set[tuple[str, str]] = set()
        waiting = [(it, extra) for it in requirements for extra in {"", *it.extras}]
        while waiting:
            name, extra = canonicalize_name(waiting[-1][0].name), waiting.pop()[1]
            if (name, extra) not in seen:
                seen.add((name, extra))
                inner = [Requirement(text) for text in metadata.requires(name) or []]
                inner = [it for it in inner if it.marker is None or it.marker.evaluate({"extra": extra})]
                waiting += [(it, extra) for it in inner for extra in {"", *it.extras}]
        return {name for name, _ in seen}

    def needed(name: str) -> list[Requirement]:
        project = tomllib.loads((figures.folder / name / "pyproject.toml").read_text())["project"]
        return [Requirement(text) for text in project["dependencies"]]

    with_key = needed("weather-api")
    others = closure([it for it in with_key if it.name != "keyring"])
    text = f"and {len(closure(with_key) - others)} that keyring alone brings, itself included"
    figures.line("with a key, besides keyring's", len(others), text, "<= 34")
    figures.line("with a sign-in, all", len(closure(needed("signed-in"))), "", "<= 48")


def main(wanted: list[str]) -> int:
    """Print the figures that are named, or all of them."""
    every: dict[str, Callable[[Figures], None]] = {it.__name__: it for it in (copy, start, token, calls, packages)}
    if unknown := set(wanted) - set(every):
        sys.exit(f"No such figure: {', '.join(unknown)}. There are: {', '.join(every)}")
    load = " ".join(f"{it:.1f}" for it in os.getloadavg())
    print(f"Python {sys.version.split()[0]}, mcp {metadata.version('mcp')}, {len(CORES)} cores, load {load}")
    with tempfile.TemporaryDirectory(prefix="figures-") as folder:
        figures = Figures(Path(folder))
        for name in wanted or every:
            print(every[name].__doc__)
            every[name](figures)
    print("All within their bounds." if figures.within else "Not all within their bounds.")
    return 0 if figures.within else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

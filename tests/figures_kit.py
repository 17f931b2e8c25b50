"""What the figures share: servers and copies to measure, and ratios to a baseline."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from statistics import median

from conftest import ROOT, git, working_tree

TOKEN = "made-up-for-the-figures"


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

    @cached_property
    def fastmcp(self) -> str | None:
        """Python of a virtual environment with the newest fastmcp, or None with a word where it cannot be installed."""
        python = self.folder / "fastmcp" / "bin" / "python"
        commands = [
            [sys.executable, "-m", "venv", str(self.folder / "fastmcp")],
            [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "fastmcp"],
            [str(python), "-c", "from importlib.metadata import version; print('fastmcp', version('fastmcp'))"],
        ]
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
                print(f"  fastmcp is skipped: it cannot be installed here ({reason})")
                return None
        print(f"  {done.stdout.strip()}")
        return str(python)

    def names(self, *names: str) -> list[str]:
        """These servers, and `fastmcp` where it could be installed."""
        return [*names, "fastmcp"] if self.fastmcp else [*names]

    def start(
        self, command: list[str], log: str, stdin: int | None = None, python: str = sys.executable, **more: str
    ) -> subprocess.Popen[bytes]:
        """Start Python. Its standard output goes to a pipe if its input comes from one, all else to `log`."""
        with (self.folder / log).open("wb") as file:
            return subprocess.Popen(
                [python, "-W", "ignore", *command],
                env=self.environment | more,
                stdin=stdin or subprocess.DEVNULL,
                stdout=stdin or file,
                stderr=file,
            )

    def server(self, name: str, log: str, *arguments: str, stdin: int | None = None) -> subprocess.Popen[bytes]:
        """Start `bare` or `fastmcp`, `weather-api` with its key, or `signed-in` with a stored sign-in."""
        if name == "fastmcp":
            command = [str(self.folder / "bare" / "bare.py"), "--fastmcp", *arguments]
            return self.start(command, log, stdin, self.fastmcp or sys.executable)
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


def peak_memory(process: subprocess.Popen[bytes]) -> float:
    """The peak of its resident memory, in MiB. Not ru_maxrss: that begins with the peak of the process that forked."""
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    return int(peak[1]) / 1024 if peak else 0.0

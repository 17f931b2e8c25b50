"""What the tests share: an environment without the developer's own secrets, a fake API, the server as a process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fake_api import FakeApi
from pkg import BEYOND, NEEDED, answers

HERE = Path(__file__).parent
SOURCE = HERE.parent / "src"

# A value for each credential, so that the server is ready and a leak is recognised.
VALUES = {name: f"sentinel-{number}-{name.lower()}" for number, name in enumerate(NEEDED, start=1)}
TOKEN = "sentinel-bearer-token-of-a-caller"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def closed_env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Settings that keep the developer's own `.env`, secrets and keyring out of the tests."""
    folder = tmp_path_factory.mktemp("closed")
    (folder / "empty.env").touch()
    return {
        "ENV_FILE": str(folder / "empty.env"),
        "MCP_SECRETS_DIR": str(folder),
        "MCP_DATA_DIR": str(folder),
        "MCP_KEYRING": "off",
        "HTTPS_PROXY": "http://127.0.0.1:1",  # nobody outside this machine is asked about a token
    }


@pytest.fixture(autouse=True)
def _closed_environment(monkeypatch: pytest.MonkeyPatch, closed_env: dict[str, str]) -> None:
    for name in list(os.environ):
        if name.startswith(("MCP_", "API_")) or name.removesuffix("_FILE") in (*answers.AUTH_KEYS, *answers.OTHER_KEYS):
            monkeypatch.delenv(name)
    for name, value in closed_env.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(autouse=True)
def _no_process_outlives_its_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """End what a test has started, also where it fails in the middle. Fixtures for several tests end their own."""
    started: list[subprocess.Popen[Any]] = []

    class Ended(subprocess.Popen[Any]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Ended)
    yield
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait(timeout=10)


@pytest.fixture(scope="session")
def fake_api() -> Iterator[FakeApi]:
    """An API on 127.0.0.1 that records what it is sent."""
    with FakeApi() as api:
        yield api


@dataclass
class ServerProcess:
    """A server that runs with `serve --http`."""

    process: subprocess.Popen[str]
    url: str = ""
    log: list[str] = field(default_factory=list)

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.terminate()
        return self.process.wait(timeout=15)


@contextmanager
def a_hangup(handler: signal.Handlers) -> Iterator[None]:
    """Processes that are started meanwhile find SIGHUP as a terminal leaves it (SIG_DFL), or `nohup` (SIG_IGN)."""
    before = signal.signal(signal.SIGHUP, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


# Environment that a process of its own needs to start at all.
KEPT = ("HOME", "PATH", "SYSTEMROOT", "TEMP", "TMP", "USERPROFILE")


@pytest.fixture(scope="session")
def process_env(closed_env: dict[str, str]) -> dict[str, str]:
    """The environment of a server process without credentials."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return {**kept, **closed_env, **BEYOND, "PYTHONPATH": str(SOURCE)}


@pytest.fixture(scope="session")
def serve(process_env: dict[str, str], fake_api: FakeApi) -> Iterator[Callable[..., ServerProcess]]:
    """`serve(MCP_BEARER_TOKENS=…)` starts a server on a free port and returns when it listens."""
    started: list[ServerProcess] = []

    def serve(*arguments: str, **env: str) -> ServerProcess:
        process = subprocess.Popen(
            [sys.executable, str(HERE / "probe_server.py"), "serve", "--http", "--port", "0", *arguments],
            env={**process_env, **VALUES, "API_BASE_URL": fake_api.url, **env},
            stderr=subprocess.PIPE,
            text=True,
        )
        server = ServerProcess(process)
        started.append(server)
        listening = threading.Event()

        def read() -> None:
            for line in process.stderr or ():
                server.log.append(line)
                if match := re.search(r"Serving (http://\S+)/mcp", line):
                    server.url = match[1]
                if "startup complete" in line:
                    listening.set()
            listening.set()

        threading.Thread(target=read, daemon=True).start()
        assert listening.wait(30), "".join(server.log)
        assert server.url, "".join(server.log)
        return server

    yield serve
    for server in started:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait(timeout=10)


@pytest.fixture(scope="session")
def run(process_env: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`run("secrets", NAME="value")` runs the command line to its end."""

    def run(*arguments: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", answers.__name__.partition(".")[0], *arguments],
            env={**process_env, **env},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    return run

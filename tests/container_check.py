"""Builds and runs rendered servers in containers, and prints what held: `N passed, N failed`. Exits 1 if anything failed.

    .venv/bin/python tests/container_check.py RIG [figures]

RIG is a script that builds and runs a project's Dockerfile and Compose file where there is no registry: `RIG check DIR`
is its own proof, `RIG build DIR`, `RIG compose DIR …` and `RIG docker …` do what their names say. As root, on Linux.

All containers share a network namespace that has nothing but a loopback. The fake provider and the fake API of the
rendered tests listen in it too, and a relay opens the two published ports here, on 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import pexpect
from conftest import ROOT, copy_template, ended, working_tree
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from test_sign_in import fake_api, fake_provider, visiting

RIG_HOME = Path(os.environ.get("RIG_HOME", "/var/lib/container-rig"))
BASE = "python:3.13-slim"
PING = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}
ACCEPT = {"Accept": "application/json, text/event-stream"}
KEYS = ("WEATHER_API_KEY", "SECOND_KEY", "THIRD_KEY")

T = TypeVar("T")


class Proof:
    """The rig, the namespace, what listens in it, and the count of what held."""

    def __init__(self, rig: Path, folder: Path, stack: ExitStack) -> None:
        self.script, self.folder = rig, folder
        self.passed = self.failed = 0
        self.rig("setup", BASE)
        self.template = working_tree(folder / "template")
        # Its network namespace outlives every container that joins it.
        self.holder = self.docker("run", "--detach", "--init", "--network=none", BASE, "sleep", "infinity").strip()
        stack.callback(self.docker, "rm", "--force", self.holder)
        self.pid = int(self.docker("inspect", "--format={{.State.Pid}}", self.holder))
        self.api = stack.enter_context(self.inside(fake_api.FakeApi))
        ready = folder / "relay"
        engine, relay = RIG_HOME / "docker.sock", RIG_HOME / "lib" / "relay.py"
        ports = [self.holder, "0", "8000", self.holder, "0", "8085"]
        process = subprocess.Popen([sys.executable, relay, engine, "1800", ready, *ports])
        stack.enter_context(ended(process, seconds=1800))
        until(ready.is_file)
        self.port, self.callback_port = (int(line.split()[1]) for line in ready.read_text().splitlines())
        self.url = f"http://127.0.0.1:{self.port}"

    def rig(self, *command: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["bash", str(self.script), *command],
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done

    def docker(self, *command: str) -> str:
        return self.rig("docker", *command).stdout

    def inside(self, make: Callable[[], T]) -> T:
        """What `make` gives; the sockets that it opens are in the namespace."""
        results: list[T] = []

        def run() -> None:
            with open(f"/proc/{self.pid}/ns/net") as namespace:
                if ctypes.CDLL(None).setns(namespace.fileno(), 0x40000000):
                    raise OSError("setns failed")
            results.append(make())

        thread = threading.Thread(target=run)  # it alone moves, and ends with the call
        thread.start()
        thread.join(timeout=30)
        return results[0]

    @contextmanager
    def provider(self, **options: Any) -> Iterator[Any]:
        context = fake_provider.running(**options)
        yield self.inside(context.__enter__)
        context.__exit__(None, None, None)

    def holds(self, what: str, held: object, seen: object = "") -> None:
        self.passed, self.failed = self.passed + bool(held), self.failed + (not held)
        print(f"{'ok   ' if held else 'FAIL '} {what}" + ("" if held else f"\n      {seen}"), flush=True)

    def part(self, title: str, run: Callable[[], None]) -> None:
        began = time.monotonic()
        print(f"-- {title}", flush=True)
        try:
            run()
        except Exception as error:
            self.holds(f"{title} runs to its end", False, f"{type(error).__name__}: {error}")
        print(f"   {time.monotonic() - began:.0f} s", flush=True)


class Server:
    """A rendered server, with its Compose file."""

    def __init__(self, proof: Proof, name: str, **answers: Any) -> None:
        self.proof = proof
        self.project = copy_template(proof.template, proof.folder / name, {"server_name": "Weather API", **answers})
        self.oauth = "oauth_provider" in answers
        self.env = {"API_BASE_URL": proof.api.url}
        self.values = dict.fromkeys(KEYS, "a-made-up-key")
        self.extra = proof.folder / f"{name}.yml"
        login = (
            ["  login:", f"    network_mode: container:{proof.holder}", "    ports: !reset []"] if self.oauth else []
        )
        self.extra.write_text(
            "\n".join(
                [
                    "services:",
                    "  server:",
                    f"    network_mode: container:{proof.holder}",
                    "    healthcheck: {interval: 1s, start_period: 1s}",
                    *login,
                    "",
                ]
            )
        )

    def secrets(self, *arguments: str, **values: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "PYTHONPATH": "src", **self.values, **values}
        command = [sys.executable, "-m", "weather_api", "secrets", "files", "--from-env", "--generate", *arguments]
        return subprocess.run(
            command, cwd=self.project, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )

    def secret(self, name: str) -> Path:
        return self.project / "secrets" / name

    @property
    def token(self) -> str:
        return self.secret("mcp_bearer_tokens").read_text().strip()

    def compose(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.proof.rig("compose", str(self.project), "-f", str(self.extra), *command, check=check, **self.env)

    def up(self, *options: str) -> None:
        self.compose("up", "--detach", "--no-build", "--wait", *options)

    def state(self, format: str) -> str:
        (container,) = self.compose("ps", "--all", "--quiet", "server").stdout.split()
        return self.proof.docker("inspect", f"--format={format}", container).strip()

    def log(self) -> str:
        return self.compose("logs", "--no-color", "--no-log-prefix", "server").stdout

    def run(self, *arguments: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """The image by itself, with all secret files."""
        mounts = ["--read-only", "--cap-drop=ALL", "-v", f"{self.project}/secrets:/run/secrets:ro"]
        network = f"--network=container:{self.proof.holder}"
        env = [f"--env={name}={value}" for name, value in self.env.items()]
        command = ["docker", "run", "--rm", network, *mounts, *env, *options, "weather-api", *arguments]
        return self.proof.rig(*command, check=False)

    def call(self, tool: str, **arguments: Any) -> Any:
        async def call() -> Any:
            http = create_mcp_http_client(headers={"Authorization": f"Bearer {self.token}"})
            async with http, Client(streamable_http_client(f"{self.proof.url}/mcp", http_client=http)) as client:
                return await client.call_tool(tool, arguments)

        return asyncio.run(call())

    def fetch(self, path: str = "/items/1") -> tuple[bool, str]:
        result = self.call("fetch", path=path)
        return not result.is_error, str(result.content)

    def post(self, token: str | None, **headers: str) -> httpx.Response:
        bearer = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.post(f"{self.proof.url}/mcp", json=PING, headers={**ACCEPT, **bearer, **headers})

    def reasons(self) -> list[str]:
        answer: dict[str, list[str]] = httpx.get(f"{self.proof.url}/ready").json()
        return answer.get("reasons", [])

    def check(self) -> None:
        """`secrets files`, then the rig's own proof."""
        proof, written = self.proof, self.secrets()
        proof.holds("secrets files writes every file", written.returncode == 0, written.stdout + written.stderr)
        done = proof.rig("check", str(self.project), check=False, MCP_PORT="0")
        failures = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("FAIL")]
        summary = done.stdout.strip().rpartition("\n")[2]
        proof.holds(f"rig check: {summary}", done.returncode == 0 and summary.endswith(" 0 failed"), failures)
        proof.holds("hadolint has nothing to say", " warning: " not in done.stdout + done.stderr, done.stderr)

    def build(self) -> None:
        self.proof.rig("build", str(self.project), MCP_PORT="0")

    def login(self, provider: Any) -> tuple[int, str]:
        """The README's command; this is the browser, which consents and comes back to the published port."""
        command = ["bash", str(self.proof.script), "compose", str(self.project), "-f", str(self.extra)]
        login = subprocess.Popen(
            [*command, "run", "--rm", "--service-ports", "login"],
            env={**os.environ, **self.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        with ended(login) as process:
            said = visiting(process.stdout or (), partial(self.come_back, provider))
            return process.wait(timeout=60), said

    def come_back(self, provider: Any, address: str) -> None:
        _, headers = provider.authorize(urlsplit(address).query)
        back = urlsplit(headers["Location"])
        request = urllib.request.Request(f"http://127.0.0.1:{self.proof.callback_port}{back.path}?{back.query}")
        request.add_header("Host", back.netloc)
        with urllib.request.urlopen(request, timeout=10) as page:
            page.read()

    def paste(self, provider: Any) -> tuple[int | None, str]:
        command = ["compose", str(self.project), "-f", str(self.extra), "run", "--rm", "login", "--paste"]
        child = pexpect.spawn(
            "bash",
            [str(self.proof.script), *command],
            env={**os.environ, **self.env},
            encoding="utf-8",
            dimensions=(50, 500),
            timeout=60,
        )
        try:
            child.expect(r"\s(http\S+/authorize\S+)\s")
            assert isinstance(child.match, re.Match)
            _, headers = provider.authorize(urlsplit(child.match[1]).query)
            child.expect("paste it here:")
            child.sendline(headers["Location"])
            child.expect(pexpect.EOF)
        finally:
            child.close(force=True)
        return child.exitstatus, child.before or ""


def until(true: Callable[[], object], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not (found := true()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return bool(found)


# ---------------------------------------------------------------- callers and secrets, on a server with API keys


def callers(server: Server) -> None:
    proof, token = server.proof, server.token
    server.up()
    health = server.call("health_check").structured_content
    proof.holds("MCP through the published port, with the token", health and health["ready"], health)
    for sent, expected in ((None, 'Bearer realm="weather-api"'), ("wrong", 'error="invalid_token"')):
        refused = server.post(sent)
        seen = (refused.status_code, refused.headers.get("WWW-Authenticate"))
        held = seen == (401, expected) if sent is None else seen[0] == 401 and expected in str(seen[1])
        proof.holds(f"401 with {expected} for {'no' if sent is None else 'a wrong'} token", held, seen)
    attacks = [("Host", it, 421) for it in ("evil.example", "127.0.0.1.evil.example", "10.0.0.1:8000")]
    attacks += [("Origin", it, 403) for it in ("https://evil.example", "null", "http://localhost.evil.example")]
    for header, value, status in attacks:
        answered = server.post(token, **{header: value}).status_code
        proof.holds(f"{status} for {header}: {value}", answered == status, answered)
    proof.holds("no other path is open", httpx.get(f"{proof.url}/openapi.json").status_code == 401)

    results: list[Any] = []
    slow = threading.Thread(target=lambda: results.append(server.fetch("/slow")))
    slow.start()
    until(lambda: any(path.endswith("/slow") for path, _ in proof.api.requests))
    server.compose("stop", "server")
    slow.join()
    proof.holds("SIGTERM lets a call finish", results and "not JSON" in results[0][1], results)
    proof.holds("and ends with exit code 0", server.state("{{.State.ExitCode}}") == "0")


def behind_caddy(server: Server) -> None:
    """The README's Caddyfile, on another port and with a certificate of its own making."""
    proof = server.proof
    server.env |= {"MCP_ALLOWED_HOSTS": "mcp.example.com"}
    server.up()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    example = (server.project / "README.md").read_text().split("```caddyfile\n")[1].split("```")[0]
    example = example.replace("mcp.example.com {", f"mcp.example.com:{port} {{\n\ttls internal")
    example = example.replace("127.0.0.1:8000", f"127.0.0.1:{proof.port}")
    options = "{\n\tadmin off\n\tauto_https disable_redirects\n\tdefault_bind 127.0.0.1\n\tskip_install_trust\n}\n"
    caddyfile, data = proof.folder / "Caddyfile", proof.folder / "caddy"
    caddyfile.write_text(options + example)
    env = {**os.environ, "XDG_DATA_HOME": str(data), "XDG_CONFIG_HOME": str(data)}
    command = ["caddy", "run", "--adapter", "caddyfile", "--config", str(caddyfile)]
    with (proof.folder / "caddy.log").open("w") as log:
        caddy = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        root = data / "caddy" / "pki" / "authorities" / "local" / "root.crt"
        certificate = data / "caddy" / "certificates" / "local" / "mcp.example.com" / "mcp.example.com.crt"
        until(lambda: root.is_file() and certificate.is_file())
        trust = ssl.create_default_context(cafile=str(root))

        def post(**headers: str) -> httpx.Response:
            with httpx.Client(verify=trust) as client:
                address, named = f"https://127.0.0.1:{port}/mcp", {"sni_hostname": "mcp.example.com"}
                sent = {**ACCEPT, "Host": f"mcp.example.com:{port}", **headers}
                return client.post(address, json=PING, headers=sent, extensions=named)

        until(lambda: not quietly(post))
        bearer = {"Authorization": f"Bearer {server.token}"}
        refused, answered = post(), post(**bearer)
        challenge = refused.headers.get("WWW-Authenticate")
        proof.holds("behind Caddy, over TLS: 401 without a token", challenge == 'Bearer realm="weather-api"', refused)
        proof.holds("an answer with it", answered.status_code not in (401, 403, 421, 502), answered.text)
        answered = post(**bearer, Origin="https://evil.example")
        proof.holds("403 for a foreign page", answered.status_code == 403, answered)
    finally:
        caddy.kill()
        caddy.wait(timeout=10)
        del server.env["MCP_ALLOWED_HOSTS"]


def rotation(server: Server) -> None:
    proof, old = server.proof, server.token
    server.up()
    server.fetch()
    proof.holds("the API gets the key", proof.api.requests[-1][1].get("x-api-key") == "a-made-up-key")
    server.secrets("--force", "WEATHER_API_KEY", WEATHER_API_KEY="another-key")
    server.fetch()
    proof.holds("a rotated key counts at once", proof.api.requests[-1][1].get("x-api-key") == "another-key")
    server.secrets("--force", "MCP_BEARER_TOKENS")
    proof.holds("a rotated token is let in", until(lambda: server.post(server.token).status_code != 401, 10))
    proof.holds("and the old one is not", server.post(old).status_code == 401)
    started = server.state("{{.RestartCount}} {{.State.Pid}}").split()
    proof.holds("without a restart", started[0] == "0" and int(started[1]) > 0, started)


def bad_secrets(server: Server) -> None:
    """Four files that cannot work, in one container."""
    proof, secret = server.proof, server.secret
    server.compose("down")
    for name in ("weather_api_key", "mcp_bearer_tokens"):
        os.chown(secret(name), 0, 0)
        os.chmod(secret(name), 0o600)
    secret("second_key").write_text("")
    secret("third_key").unlink()
    secret("third_key").mkdir()
    server.compose("up", "--detach", "--no-build")
    proof.holds("a bad secret is unhealthy", until(lambda: server.state("{{.State.Health.Status}}") == "unhealthy"))
    shown = server.compose("ps").stdout
    proof.holds("and docker compose ps says so", "(unhealthy)" in shown, shown)
    proof.holds("it does not restart in a loop", server.state("{{.RestartCount}} {{.State.Running}}") == "0 true")
    proof.holds("it is alive", httpx.get(f"{proof.url}/health").status_code == 200)
    log = server.log()
    commands = []
    for name in ("weather_api_key", "mcp_bearer_tokens"):
        line = re.search(
            rf"Not ready: /run/secrets/{name} cannot be read by uid 10001 \(it belongs to uid 0, mode 0600\)\. "
            rf"Run on the host: (sudo chown 10001 secrets/{name} && sudo chmod 400 secrets/{name})\n",
            log,
        )
        proof.holds(f"0600 of root: one line with file, uid, mode and command ({name})", line, log)
        commands.append(line[1] if line else "false")
    empty = "/run/secrets/second_key is empty. Write SECOND_KEY to it. Run on the host: weather-api secrets files\n"
    proof.holds("empty: one line with the command", empty in log, log)
    directory = "/run/secrets/third_key is a directory, so THIRD_KEY cannot be read. Run on the host: rmdir secrets/"
    proof.holds("a directory in its place: one line with the command", directory in log, log)
    proof.holds("nobody is let in while the tokens cannot be read", server.post(server.token).status_code == 401)

    for command in commands:
        subprocess.run(["bash", "-c", command.replace("sudo ", "")], cwd=server.project, check=True, timeout=60)
    blocked = server.secrets()
    proof.holds("secrets files names the directory", "Run: rmdir secrets/third_key" in blocked.stderr, blocked.stderr)
    server.secrets("SECOND_KEY")
    left = until(lambda: server.reasons() == ["THIRD_KEY: unreadable"], 10)
    proof.holds("the commands mend it without a restart", left, server.reasons())
    proof.holds("and callers are let in", until(lambda: server.post(server.token).status_code != 401, 10))
    secret("third_key").rmdir()
    server.compose("down")
    missing = server.compose("up", "--detach", "--no-build", check=False)
    said = missing.stderr.strip().rpartition("\n")[2]
    proof.holds("missing: the engine names the file", missing.returncode and "secrets/third_key" in said, said)
    server.secrets()
    server.up("--force-recreate")
    proof.holds("secrets files mends that too", server.reasons() == [])


def bad_starts(server: Server) -> None:
    proof = server.proof
    taken = server.run()
    said = "Cannot listen on 0.0.0.0 port 8000 (Address already in use)"
    proof.holds("a port that is taken: one line, exit code 1", taken.returncode == 1 and said in taken.stderr, taken)
    os.rename(server.secret("mcp_bearer_tokens"), server.project / "kept")
    opened = server.run()
    os.rename(server.project / "kept", server.secret("mcp_bearer_tokens"))
    said = "Set MCP_BEARER_TOKENS, or bind 127.0.0.1."
    proof.holds("no tokens at all: one line, exit code 2", opened.returncode == 2 and said in opened.stderr, opened)
    other = server.run("secrets", options=("--user=12345:12345",))
    said = (
        "cannot be read by uid 12345 (it belongs to uid 10001, mode 0400). Run on the host: sudo chown 12345 secrets/"
    )
    proof.holds("--user of another: says whose the file is", other.stdout.count(said) == 4, other)


def image(server: Server) -> None:
    """What is in the image, against its base."""
    proof = server.proof

    def find(image: str, *tests: str) -> set[str]:
        command = ["run", "--rm", "--network=none", "--user=0", "--entrypoint=find", image, "/", "-xdev"]
        return set(proof.docker(*command, *tests).splitlines())

    for what, tests in {
        "setuid or setgid file": ["-type", "f", "-perm", "/6000"],
        "path that anybody may write": ["(", "-type", "f", "-o", "-type", "d", ")", "-perm", "-0002"],
        "test, secret, .env or build tool": [
            "(", "-name", ".env*", "-o", "-name", "secrets", "-path", "/opt/*", "-type", "d", "-o", "-name", "uv",
            "-type", "f", "-o", "-name", "hatchling", "-o", "-path", "/build*", "-o", "-path", "/root/.cache/*",
            "-o", "-name", "probe_server.py", ")",
        ],
    }.items():  # fmt: skip
        more = find("weather-api", *tests) - find(BASE, *tests)
        proof.holds(f"no {what} that the base does not have", not more, more)
    labels = json.loads(proof.docker("inspect", "--format={{json .Config.Labels}}", "weather-api"))
    dated = [name for name in labels if name.endswith((".created", ".revision"))]
    titled = labels.get("org.opencontainers.image.title") == "weather-api"
    proof.holds("OCI labels, none of them a date", titled and not dated, labels)


# ---------------------------------------------------------------- signing in


def signing_in(server: Server, provider: Any, how: str) -> None:
    proof = server.proof
    server.up()
    before = server.fetch()
    proof.holds("up and healthy before anybody signed in", "Not signed in. Run: weather-api login" in before[1], before)
    asked = server.compose("exec", "-T", "server", "weather-api", "health", check=False)
    proof.holds("but not ready", asked.returncode == 1 and "alive, not ready: sign-in: missing" in asked.stderr, asked)
    code, said = server.paste(provider) if how == "--paste" else server.login(provider)
    proof.holds(f"docker compose run login {how}", code == 0 and "Signed in to" in said, said)
    fetched = server.fetch()
    sent = proof.api.requests[-1][1].get("authorization", "").removeprefix("Bearer ")
    proof.holds("the running server uses it", fetched[0] and sent in provider.access, fetched)
    server.compose("down")
    server.up()
    proof.holds("still signed in after down and up", server.fetch()[0])


def new_image(server: Server) -> None:
    """Changed source and a lock file: another image, and the same sign-in."""
    proof = server.proof
    target = proof.folder / "target.yml"
    target.write_text("services:\n  server:\n    image: weather-api-build\n    build:\n      target: build\n")
    server.compose("-f", str(target), "build", "server")
    stage = proof.docker("create", "weather-api-build").strip()
    proof.docker("cp", f"{stage}:/build/uv.lock", str(server.project / "uv.lock"))
    proof.docker("rm", stage)
    (server.project / "src" / "weather_api" / "tools" / "another.py").write_text("ANOTHER = True\n")
    first = server.state("{{.Image}}")
    server.build()
    server.up()
    proof.holds("a new image", server.state("{{.Image}}") != first)
    proof.holds("still signed in with it", server.fetch()[0])
    pyproject = server.project / "pyproject.toml"
    text = pyproject.read_text()
    pyproject.write_text(text.replace('"mcp>=2.3,<3"', '"mcp>=2.3,<2.99"'))
    stale = proof.rig("build", str(server.project), check=False, MCP_PORT="0")
    pyproject.write_text(text)
    held = stale.returncode and "needs to be updated" in stale.stderr + stale.stdout
    proof.holds("uv.lock rules: one that does not fit stops the build", held, stale.stderr[-600:])


def killed(server: Server, provider: Any) -> None:
    """kill -9 while a renewal is under way: with a provider that keeps refresh tokens, and with one that replaces them."""
    proof = server.proof
    for rotate in (False, True):
        # A token that was renewed just now is not renewed again because the API answers 401; a new one is.
        server.compose("run", "--rm", "login", "--device", check=False)
        pid = server.state("{{.State.Pid}}")
        provider.rotate, provider.delay, asked = rotate, 2.0, len(provider.posts)
        threading.Thread(target=quietly, args=(partial(server.fetch, "/status/401"),), daemon=True).start()
        under_way = until(partial(more_than, provider.posts, asked))
        os.kill(int(pid), signal.SIGKILL)
        again = under_way and until(partial(came_back, server, pid))
        proof.holds("kill -9 during a renewal: it comes back by itself", again)
        time.sleep(provider.delay)  # the provider has answered by now, to nobody
        provider.delay, refreshes = 0.0, provider.refreshes
        server.fetch("/status/401")  # an API that refuses the token makes the server renew it
        fetched, said = server.fetch()
        if rotate:
            asks = "an earlier renewal was interrupted" in said and "Run: weather-api login" in said
            proof.holds("the provider's answer was lost: it asks, with the reason", asks, said)
        else:
            proof.holds("still signed in, and renewed", fetched and provider.refreshes > refreshes, said)
    device = server.compose("run", "--rm", "login", "--device", check=False)
    proof.holds("docker compose run login --device", device.returncode == 0, device.stdout + device.stderr)
    proof.holds("signed in again", server.fetch()[0])


def more_than(grows: list[Any], length: int) -> bool:
    return len(grows) > length


def came_back(server: Server, pid: str) -> bool:
    now, health = server.state("{{.State.Pid}} {{.State.Health.Status}}").split()
    return now not in ("0", pid) and health == "healthy"


def quietly(call: Callable[[], object]) -> bool:
    """Whether `call` failed."""
    try:
        call()
    except Exception:
        return True
    return False


def bad_stores(server: Server) -> None:
    closed = server.project / "closed"
    closed.mkdir()
    bad_store(server, "a volume of root", f"{closed}:/data")
    bad_store(server, "a read-only volume", f"{closed}:/data:ro")


def bad_store(server: Server, what: str, mount: str) -> None:
    proof = server.proof
    done = server.run("login", "--device", options=("-v", mount))
    lines = [line for line in done.stderr.splitlines() if not line.startswith("WARNING: ")]  # the engine's own
    held = done.returncode and len(lines) == 1 and "/data/sign-in cannot be used by uid 10001" in lines[0]
    proof.holds(f"{what}: login is one line that names it", held, done.stderr[-600:])
    mounts = ["-v", mount, "-v", f"{server.project}/secrets:/run/secrets:ro"]
    shared = "--env=MCP_SHARED_SIGN_IN=on"
    container = proof.docker("run", "--detach", "--network=none", shared, *mounts, "weather-api").strip()
    said = "Not ready: MCP_DATA_DIR=/data cannot be written by uid 10001."
    logged = until(lambda: said in proof.rig("docker", "logs", container).stderr, 10)
    proof.holds(f"{what}: the server's log names it", logged)
    health = ["docker", "exec", container, "weather-api", "health", "--without-sign-in"]
    sick = until(lambda: "sign-in: unreadable" in proof.rig(*health, check=False).stderr, 10)
    proof.holds(f"{what}: unhealthy", sick)
    proof.docker("rm", "--force", container)


# ---------------------------------------------------------------- figures


def figures(proof: Proof) -> None:
    """Size, seconds and memory, beside an image of the same base with the bare SDK server, in turn."""
    server = Server(proof, "weather-api", auth_keys="WEATHER_API_KEY")
    server.secrets()
    server.build()  # so that both are measured with the base at hand
    proof.docker("builder", "prune", "--all", "--force")
    cold = seconds(server.build)
    (server.project / "src" / "weather_api" / "tools" / "another.py").write_text("ANOTHER = True\n")
    print(f"  build, cold / after a change of source / unchanged: {cold:.1f} / "
          f"{seconds(server.build):.1f} / {seconds(server.build):.1f} s")  # fmt: skip

    bare = proof.folder / "bare"
    bare.mkdir()
    shutil.copy(ROOT / "tests" / "bare_server.py", bare)
    (bare / "docker-compose.yml").write_text("services:\n  bare:\n    build: .\n    image: bare\n")
    (bare / "Dockerfile").write_text(
        f'FROM {BASE} AS build\nRUN pip install "uv>=0.8,<1"\n'
        'RUN uv venv /opt/server && UV_LINK_MODE=copy uv pip install --compile-bytecode --python /opt/server "mcp>=2.3,<3"\n'
        f"FROM {BASE}\nCOPY --from=build /opt/server /opt/server\nCOPY bare_server.py /opt/server/\nUSER 10001:10001\n"
        'ENTRYPOINT ["/opt/server/bin/python", "/opt/server/bare_server.py", "serve"]\n'
    )
    proof.rig("build", str(bare))
    size = {
        it: int(proof.docker("image", "inspect", "--format={{.Size}}", it)) / 1e6
        for it in (BASE, "bare", "weather-api")
    }
    ours, theirs = size["weather-api"] - size[BASE], size["bare"] - size[BASE]
    print(f"  size over the base: {ours:.1f} MB; bare {theirs:.1f} MB; ratio {ours / theirs:.2f}")

    ups, stops, memory = [], [], []
    for _ in range(5):
        ups.append(seconds(server.up))
        memory.append((rss(int(server.state("{{.State.Pid}}"))), bare_rss(proof)))
        stops.append(seconds(lambda: server.compose("stop", "server")))
        server.compose("down")
    print(f"  up to healthy: {median(ups):.1f} s ({min(ups):.1f} to {max(ups):.1f}), docker compose itself included")
    print(
        f"  SIGTERM to exit: {median(stops):.1f} s ({min(stops):.1f} to {max(stops):.1f}), docker compose itself included"
    )
    ratios = [one / other for one, other in memory]
    print(f"  idle RSS: {median(it[0] for it in memory):.1f} MiB; bare {median(it[1] for it in memory):.1f} MiB; "
          f"ratio {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")  # fmt: skip


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def rss(pid: int) -> float:
    time.sleep(1)
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def bare_rss(proof: Proof) -> float:
    container = proof.docker("run", "--detach", "--rm", "--network=none", "bare").strip()
    until(lambda: "Serving http" in proof.rig("docker", "logs", container).stderr)
    used = rss(int(proof.docker("inspect", "--format={{.State.Pid}}", container)))
    proof.docker("kill", container)
    return used


# ---------------------------------------------------------------- all of it


def everything(proof: Proof, stack: ExitStack) -> None:
    keys = Server(proof, "keys", auth_keys=", ".join(KEYS))
    stack.callback(proof.rig, "down", str(keys.project))
    parts: dict[str, Callable[[], None]] = {
        "API keys: the rig's check": keys.check,
        "API keys: callers": partial(callers, keys),
        "API keys: behind Caddy": partial(behind_caddy, keys),
        "API keys: rotation": partial(rotation, keys),
        "API keys: secrets that cannot work": partial(bad_secrets, keys),
        "API keys: starts that cannot work": partial(bad_starts, keys),
    }
    for title, run in parts.items():
        proof.part(title, run)
    keys.compose("down", "--volumes")

    for name in ("github", "google", "azure", "custom"):
        style: dict[str, Any] = {} if name == "custom" else {"style": name}
        public = {"client_secret": None} if name in ("azure", "custom") else {}
        with proof.provider(client_id="made-up-client", **style, **public) as provider:
            issuer = {"oauth_issuer": provider.base} if name == "custom" else {}
            server = Server(proof, name, oauth_provider=name, **issuer)
            server.env |= {"OAUTH_BASE_URL": provider.base}
            server.values = {"OAUTH_CLIENT_ID": provider.client_id}
            if not public:
                server.values["OAUTH_CLIENT_SECRET"] = provider.client_secret
            if name in ("github", "custom"):
                proof.part(f"{name}: the rig's check", server.check)
            else:
                server.secrets()
                proof.part(f"{name}: build", server.build)
            how = "--paste" if name == "custom" else "--service-ports"
            proof.part(f"{name}: signing in", partial(signing_in, server, provider, how))
            if name == "github":
                proof.part("github: a new image", partial(new_image, server))
                proof.part("github: killed", partial(killed, server, provider))
                proof.part("github: stores that cannot work", partial(bad_stores, server))
            server.compose("down", "--volumes")
    proof.part("the image", partial(image, server))


def main(rig: str, *modes: str) -> int:
    with tempfile.TemporaryDirectory(prefix="containers-") as name, ExitStack() as stack:
        folder = Path(name)
        (folder / "home").mkdir()
        (folder / "home" / ".gitconfig").write_text("[user]\nname = Tester\nemail = tester@example.com\n")
        os.environ |= {"HOME": str(folder / "home"), "GIT_CONFIG_NOSYSTEM": "1"}
        proof = Proof(Path(rig).resolve(), folder, stack)
        if "figures" in modes:
            figures(proof)
            return 0
        everything(proof, stack)
    print(f"{proof.passed} passed, {proof.failed} failed")
    return 1 if proof.failed or not proof.passed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""Prints how the template and a rendered server compare with baselines; exits 1 if a figure is out of its bound.

    .venv/bin/python tests/figures.py [--quick] [copy] [start] [token] [calls] [packages]

Each figure is a ratio to a baseline that is measured in turn with it: the median of the ratios of all turns, with the
lowest and the highest. The baselines are a bare server on the SDK and one of the newest fastmcp, which gets a virtual
environment of its own. Linux only: CPU time and memory of other processes come from the kernel's counters. CPU time is
steadier than wall time where other work disturbs. No part of the tests: a busy machine would fail them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

from conftest import ROOT, commit, git
from figures_http import CORES, calls
from figures_kit import Figures, finish, in_turn, peak_memory
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# Turns of copies, starts and rounds of calls; of these also the fewest, which still are 5,000 calls.
TURNS, QUICK = {"copy": 9, "start": 15, "calls": 41}, {"copy": 3, "start": 5, "calls": 26}

# What a client sends on stdio.
HELLO = (
    '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},'
    '"clientInfo":{"name":"figures","version":"1"}}}',
    '{"jsonrpc":"2.0","method":"notifications/initialized"}\n{"jsonrpc":"2.0","id":2,"method":"tools/list"}',
)


def copy(figures: Figures, turns: int) -> None:
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
    folder = figures.folder / "copied"
    oauth = {"server_name": "Signed In", "oauth_provider": "github", "auth_keys": ""}
    one, keys, sign_in = in_turn(
        turns,
        lambda: figures.copy("small", folder / "small"),
        lambda: figures.copy("template", folder / "keys"),
        lambda: figures.copy("template", folder / "sign-in", **oauth),
    )
    for title, ours, bound in (("with a key", keys, "<= 1.7"), ("with a sign-in", sign_in, "<= 1.9")):
        figures.ratio(f"CPU seconds {title}", one[0], ours[0], bound)
        figures.ratio(f"wall seconds {title}", one[1], ours[1], bound)


def start(figures: Figures, turns: int) -> None:
    """Cold start, spawn to `tools/list` answered over stdio, with a key and with a sign-in, against bare and fastmcp."""

    def measure(name: str) -> Sequence[float]:
        began = time.perf_counter()
        process = figures.server(name, f"{name}.log", stdin=subprocess.PIPE)
        try:
            assert process.stdin
            assert process.stdout
            for message in HELLO:
                process.stdin.write(message.encode() + b"\n")
                process.stdin.flush()
                answer = process.stdout.readline()
            seconds = time.perf_counter() - began
            peak = peak_memory(process)
        finally:
            process.kill()  # so that the shutdown does not count
            cpu = finish(process)
        if b'"health_check"' not in answer:
            raise RuntimeError((figures.folder / f"{name}.log").read_text())
        return cpu, peak, seconds

    names = figures.names("bare", "weather-api", "signed-in")
    found = dict(zip(names, in_turn(turns, *(lambda name=name: measure(name) for name in names)), strict=True))
    for baseline in [name for name in ("bare", "fastmcp") if name in found]:
        print(f" against {baseline}")
        for title, ours, bound in (("a key", "weather-api", "<= 1.10"), ("a sign-in", "signed-in", "<= 1.12")):
            within = bound if baseline == "bare" else ""
            figures.ratio(f"CPU seconds with {title}", found[baseline][0], found[ours][0], within)
            figures.ratio(f"peak RSS, MiB with {title}", found[baseline][1], found[ours][1], within)
            figures.ratio(f"wall seconds with {title}", found[baseline][2], found[ours][2])


def token(figures: Figures, _: int) -> None:
    """`get_token()` while the token is fresh, against an awaited no-op, in nanoseconds."""
    rounds = [[float(word) for word in line.split()] for line in figures.cached_token().splitlines()]
    no_op, ours = zip(*rounds, strict=True)
    figures.ratio("nanoseconds", no_op, ours, "<= 5.0")


def packages(figures: Figures, _: int) -> None:
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
    every: dict[str, Callable[[Figures, int], None]] = {it.__name__: it for it in (copy, start, token, calls, packages)}
    turns = QUICK if "--quick" in wanted else TURNS
    wanted = [name for name in wanted if name != "--quick"]
    if unknown := set(wanted) - set(every):
        sys.exit(f"No such figure: {', '.join(unknown)}. There are: {', '.join(every)}")
    load = " ".join(f"{it:.1f}" for it in os.getloadavg())
    print(f"Python {sys.version.split()[0]}, mcp {metadata.version('mcp')}, {len(CORES)} cores, load {load}")
    with tempfile.TemporaryDirectory(prefix="figures-") as folder:
        figures = Figures(Path(folder))
        for name in wanted or every:
            print(every[name].__doc__)
            every[name](figures, turns.get(name, 0))
    print("All within their bounds." if figures.within else "Not all within their bounds.")
    return 0 if figures.within else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What the tests share: a clean home, the template as a tagged repository, and projects rendered from it."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import copier
import pytest

ROOT = Path(__file__).resolve().parent.parent
Text = TypeVar("Text", str, bytes)
NEXT = "v9999.0.0"  # the working tree, as the version that comes after every released one


def git(folder: Path, *arguments: str) -> str:
    """Run git in `folder` and return what it prints; a failure fails the test."""
    done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def commit(folder: Path, message: str = "Edit") -> None:
    """Commit everything in `folder`, which becomes a repository first if it is none."""
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", message)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that the workers end together."""
    items.sort(key=lambda item: "long" not in item.keywords)


@contextmanager
def ended(process: subprocess.Popen[Text], seconds: float = 120) -> Iterator[subprocess.Popen[Text]]:
    """A process that does not outlive what is done with it, nor these seconds: who reads from it waits no longer."""
    end = threading.Timer(seconds, process.kill)
    end.start()
    try:
        yield process
    finally:
        end.cancel()
        if process.poll() is None:
            process.kill()
            process.wait(timeout=10)


def copy_template(source: Path | str, destination: Path, answers: dict[str, Any], tag: str = NEXT) -> Path:
    """Render `source` at `tag` in process, with no settings of the developer's own."""
    copier.run_copy(
        str(source),
        destination,
        data=answers,
        vcs_ref=tag,
        defaults=True,
        quiet=True,
        unsafe=True,
        settings=copier.Settings(),
    )
    return destination


@pytest.fixture(scope="session", autouse=True)
def clean_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty HOME with a git identity, for this process and for those it starts."""
    from plumbum import local  # Copier runs git through it, with a copy of the environment

    home = tmp_path_factory.mktemp("home")
    (home / ".gitconfig").write_text(
        "[user]\nname = Tester\nemail = tester@example.com\n[core]\nfsync = none\n[advice]\ndetachedHead = false\n"
    )
    changes = {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "COPIER_SETTINGS_PATH": str(home / "no-settings.yml"),
    }
    with pytest.MonkeyPatch.context() as patch, local.env(**changes):
        for name, value in changes.items():
            patch.setenv(name, value)
        for name in ("CLAUDECODE", "ENV_FILE", "NO_COLOR", "FORCE_COLOR"):
            patch.delenv(name, raising=False)
        yield home


@pytest.fixture(scope="session")
def template(clean_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working tree, committed and tagged in a repository of its own."""
    return working_tree(tmp_path_factory.mktemp("template") / "repository")


def working_tree(destination: Path, tag: str = NEXT) -> Path:
    """Copy what git knows or would add from the working tree, commit it and tag it."""
    for name in git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        source = ROOT / name
        if name and source.is_file():
            target = destination / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    commit(destination, "Template")
    git(destination, "tag", tag)
    return destination


@pytest.fixture(scope="session")
def render(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`render(auth_keys="A,B")` gives a project with these answers; the same answers give the same folder."""
    rendered: dict[str, Path] = {}

    def render(folder: str = "weather-api", **answers: Any) -> Path:
        key = repr((folder, sorted(answers.items())))
        if key not in rendered:
            rendered[key] = copy_template(template, tmp_path_factory.mktemp("project") / folder, answers)
        return rendered[key]

    return render

"""What the update tests share: a template with a past, projects rendered from it, and what users do to those."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import copier
import copier._template
import pytest
from conftest import NEXT, commit, copy_template, git

PACKAGE = "template/src/{{ package_name }}"
USER_OWNED = re.compile(r"src/[^/]+/tools/|tests/tools/")
Edits = dict[str, bytes | None]

ANSWERS: dict[str, dict[str, Any]] = {
    "one key": {},
    "no keys": {"auth_keys": "", "github_actions": False},
    "three keys": {"auth_keys": "A_USER, A_PASSWORD, A_TENANT", "api_auth": "basic"},
}


@dataclass(frozen=True)
class Older:
    """How a version differed from the working tree, by paths in the template."""

    noted: tuple[str, ...]  # had two more lines
    missing: tuple[str, ...]  # came later
    extra: dict[str, str]  # is gone since
    unasked: tuple[str, ...] = field(default=())  # questions that came later: the value was always the default


ALWAYS_NOTED = (
    f"{PACKAGE}/inbound.py",
    f"{PACKAGE}/tools/example.py",
    "template/pyproject.toml.jinja",
    "template/.env.example.jinja",
    "template/secrets/README.md.jinja",
)
OLDER = {
    "v0.1.0": Older(
        noted=(*ALWAYS_NOTED, f"{PACKAGE}/client.py", "template/README.md.jinja"),
        missing=(f"{PACKAGE}/logs.py", "template/.github/workflows/ci.yml", "template/.gitattributes"),
        extra={
            f"{PACKAGE}/legacy.py": "OLD = True\n",
            f"{PACKAGE}/tools/sample.py": '"""Another example."""\n',
            "template/docs/legacy.md.jinja": "# {{ server_name }}\n",
        },
        unasked=("description",),
    ),
    "v0.2.0": Older(
        noted=(*ALWAYS_NOTED, f"{PACKAGE}/server.py"),
        missing=(f"{PACKAGE}/commands/config.py",),
        extra={f"{PACKAGE}/commands/legacy.py": "OLD = True\n"},
    ),
}


def with_past(template: Path, repository: Path) -> Path:
    """Make `repository`: the older versions in turn, each tagged, then what is in `template` as NEXT."""
    for tag, older in OLDER.items():
        fill(repository, template)
        for name in older.noted:
            lines = (repository / name).read_text().splitlines(keepends=True)
            lines.insert(len(lines) // 2, f"# The middle in {tag}\n")
            (repository / name).write_text("".join([f"# The top in {tag}\n", *lines]))
        for name in older.missing:
            (repository / name).unlink()
        for name, text in older.extra.items():
            write(repository / name, text.encode())
        questions = repository / "copier.yml"
        for name in older.unasked:
            questions.write_text(questions.read_text().replace(f"\n{name}:\n", f"\n{name}:\n  when: false\n"))
        release(repository, tag)
    fill(repository, template)
    return release(repository, NEXT)


def fill(repository: Path, source: Path) -> None:
    """Replace everything in `repository` but its history by the files of `source`."""
    for path in repository.glob("*"):
        if path.name != ".git":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(source, repository, ignore=shutil.ignore_patterns(".git"), dirs_exist_ok=True)


def release(repository: Path, tag: str) -> Path:
    commit(repository, tag)
    git(repository, "tag", tag)
    return repository


@contextmanager
def clones_kept(folder: Path) -> Iterator[None]:
    """Let Copier clone each version of a local template once, not five times per update; it only reads them."""
    clone = copier._template.clone  # type: ignore[attr-defined]

    @cache
    def once(url: str, ref: str) -> str:
        place = folder / str(once.cache_info().currsize)
        place.mkdir(parents=True)
        return str(clone(url, ref, str(place)))

    def kept(url: str, ref: str = "HEAD", location: str | None = None) -> str:
        return once(url, ref) if Path(url).is_dir() else str(clone(url, ref, location))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copier._template, "clone", kept)
        yield


@dataclass
class Projects:
    """Projects rendered from one template, each rendered once and copied for each test."""

    template: Path
    folder: Path
    rendered: dict[tuple[str, str], Path] = field(default_factory=dict)

    def pristine(self, tag: str, answers: str) -> Path:
        """Return the project as `copier copy` makes it, committed; not to be changed."""
        if (tag, answers) not in self.rendered:
            folder = self.folder / str(len(self.rendered)) / "weather-api"
            commit(copy_template(self.template, folder, ANSWERS[answers], tag))
            self.rendered[tag, answers] = folder
        return self.rendered[tag, answers]

    def new(self, tag: str, answers: str, folder: Path) -> Path:
        """Return such a project in `folder`, to be changed."""
        shutil.copytree(self.pristine(tag, answers), folder / "weather-api")
        return folder / "weather-api"


def update(project: Path, to: str | copier.VcsRef = NEXT, **answers: Any) -> None:
    """Run `copier update` in process, as with --defaults."""
    copier.run_update(
        project,
        data=answers,
        vcs_ref=to,
        defaults=True,
        overwrite=True,
        quiet=True,
        unsafe=True,
        settings=copier.Settings(),
    )


def tree(project: Path) -> dict[str, bytes]:
    """Return the bytes of every file but git's own."""
    paths = (path for path in project.rglob("*") if path.is_file())
    files = {path.relative_to(project).as_posix(): path.read_bytes() for path in paths}
    return {name: content for name, content in files.items() if not re.search(r"^\.git/|__pycache__", name)}


def unmerged(project: Path) -> set[str]:
    return {line.split("\t")[1] for line in git(project, "ls-files", "--unmerged").splitlines()}


def write(path: Path, content: bytes) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return content


def append(path: Path, text: bytes) -> bytes:
    return write(path, path.read_bytes() + text)


# What users do. Each returns what it did to files that `update` may touch: the text added at the end, or None for removed.


def nothing(project: Path) -> Edits:
    return {}


def edit_a_tool(project: Path) -> Edits:
    write(project / "src/weather_api/tools/example.py", b'"""Mine."""\r\n\r\nMY = "bytes"  # no newline at the end')
    return {}


def add_tools(project: Path) -> Edits:
    write(project / "src/weather_api/tools/icon.png", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9)
    write(project / "src/weather_api/tools/forecast.py", b"FORECAST = 1\n")
    write(project / "src/weather_api/tools/helpers/_shared.py", b"SHARED = 1\n")
    write(project / "tests/tools/test_forecast.py", b"def test_forecast() -> None:\n    assert True\n")
    return {}


def delete_managed_files(project: Path) -> Edits:
    (project / ".env.example").unlink()
    (project / "src/weather_api/inbound.py").unlink()
    return {".env.example": None, "src/weather_api/inbound.py": None}


def edit_a_tool_and_delete_a_managed_file(project: Path) -> Edits:
    (project / ".env.example").unlink()
    return {".env.example": None, **edit_a_tool(project)}


def rename_a_tool(project: Path) -> Edits:
    tools = project / "src/weather_api/tools"
    (tools / "example.py").rename(tools / "weather.py")
    return {}


def delete_a_tool(project: Path) -> Edits:
    (project / "src/weather_api/tools/example.py").unlink()
    return {}


def fill_in_secrets(project: Path) -> Edits:
    names = (".env", ".env.production", "secrets/weather_api_key", "secrets/mcp_bearer_tokens")
    edits: Edits = {name: write(project / name, b"s3cret\n") for name in names}
    assert git(project, "status", "--porcelain") == "", "git must not see them"
    return edits


def edit_elsewhere(project: Path) -> Edits:
    edits: Edits = {
        "src/weather_api/inbound.py": b"\n\nMINE = True\n",
        "pyproject.toml": b"\n[tool.mine]\nkey = 1\n",
        "README.md": b"\n## Mine\n",
    }
    for name, text in edits.items():
        append(project / name, text or b"")
    return edits


EDITS: tuple[Callable[[Path], Edits], ...] = (
    nothing,
    edit_a_tool,
    add_tools,
    delete_managed_files,
    edit_a_tool_and_delete_a_managed_file,
    rename_a_tool,
    delete_a_tool,
    fill_in_secrets,
    edit_elsewhere,
)


def after_update(copied: dict[str, bytes], before: dict[str, bytes], edits: Edits) -> dict[str, bytes]:
    """Return the files an update should leave: those of a new copy, with the user's own and the user's edits."""
    files = {name: content for name, content in copied.items() if not USER_OWNED.match(name)}
    files |= {name: content for name, content in before.items() if USER_OWNED.match(name)}
    for name, text in edits.items():
        if text is None:
            del files[name]
        else:
            files[name] = files.get(name, b"") + text
    return files

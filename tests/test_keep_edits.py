"""A later version renames or deletes managed files: what the user had changed in them is kept, and said."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import copier
import pytest
import yaml
from conftest import NEXT, ROOT, commit, copy_template, git
from updates import USER_OWNED, Projects, append, clones_kept, release, tree, unmerged, update, with_past, write

LATER = "v9999.1.0"
PACKAGE = "template/src/{{ package_name }}"
OLD, NEW, GONE = (f"src/weather_api/{name}.py" for name in ("inbound", "vitals", "logs"))
RENAME = "      - src/*/inbound.py=src/*/vitals.py\n"
EXCLUDED = ("docker-compose.yml", "src/weather_api/keychain.py", "tests/tools/test_example.py")


@pytest.fixture(scope="module", autouse=True)
def _fast_clones(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with clones_kept(tmp_path_factory.mktemp("clones")):
        yield


@pytest.fixture(scope="module")
def projects(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Projects:
    """Projects of a template whose last version, LATER, renames a module, deletes another and a rendered file, and
    renders no longer what is EXCLUDED."""
    folder = tmp_path_factory.mktemp("projects")
    repository = with_past(template, folder / "template")
    module = repository / PACKAGE / "inbound.py"
    write(repository / PACKAGE / "vitals.py", b"# The new top\n" + module.read_bytes())
    for path in (module, repository / PACKAGE / "logs.py", repository / "template/.env.example.jinja"):
        path.unlink()
    settings = repository / "copier.yml"
    text = re.sub(r'(keep_edits\.py"\n.*\n)', rf"\1{RENAME}", settings.read_text())
    excluded = "".join(f"  - /{path.replace('weather_api', '*')}\n" for path in EXCLUDED)
    settings.write_text(text.replace("_exclude:\n", f"_exclude:\n{excluded}"))
    assert RENAME in settings.read_text()
    assert excluded in settings.read_text()
    return Projects(release(repository, LATER), folder)


@pytest.fixture
def project(projects: Projects, tmp_path: Path) -> Path:
    return projects.new(NEXT, "one key", tmp_path)


def said(capfd: pytest.CaptureFixture[str], path: str) -> list[str]:
    """Return what was said about `path` on stderr."""
    lines = capfd.readouterr().err.splitlines()
    return [line.removeprefix(f"{path}: ") for line in lines if line.startswith(f"{path}: ")]


@pytest.mark.parametrize("version", ["v0.1.0", NEXT])
def test_edits_move_to_the_new_name(
    projects: Projects, tmp_path: Path, version: str, capfd: pytest.CaptureFixture[str]
) -> None:
    project = projects.new(version, "one key", tmp_path)
    append(project / OLD, b"\nMINE = True\n")
    commit(project)
    update(project, LATER)
    expected = tree(projects.pristine(LATER, "one key"))
    expected[NEW] += b"\nMINE = True\n"
    assert {name: text for name, text in tree(project).items() if "/tools/" not in name} == {
        name: text for name, text in expected.items() if "/tools/" not in name
    }
    assert unmerged(project) == set()
    assert said(capfd, OLD) == [f"now {NEW}, with your changes"]
    commit(project)
    update(project, copier.VcsRef.CURRENT)
    assert git(project, "status", "--porcelain") == ""


@pytest.mark.parametrize("folder", [".", "servers"], ids=["root", "folder of a larger repository"])
def test_edits_of_the_same_line_conflict(
    projects: Projects, tmp_path: Path, folder: str, capfd: pytest.CaptureFixture[str]
) -> None:
    project = projects.new(NEXT, "one key", tmp_path / folder)
    shutil.rmtree(project / ".git")
    (project / OLD).write_bytes(b"# My own top\n" + (project / OLD).read_bytes())
    commit(tmp_path)
    update(project, LATER)
    where = (project / NEW).relative_to(tmp_path).as_posix()
    assert unmerged(tmp_path) == {where}
    assert f"{where}\n" in git(tmp_path, "diff", "--name-only", "--diff-filter=U")
    text = (project / NEW).read_text()
    assert text.startswith("<<<<<<< before updating\n# My own top\n=======\n# The new top\n>>>>>>> after updating\n")
    assert text.count("=======") == 1
    assert not (project / OLD).exists()
    assert "CONFLICTS" in said(capfd, OLD)[0]


def test_what_was_not_edited_is_as_in_a_new_copy(
    projects: Projects, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    update(project, LATER)
    owned = {EXCLUDED[-1]: (project / EXCLUDED[-1]).read_bytes()}
    assert tree(project) == tree(projects.pristine(LATER, "one key")) | owned
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("path", [GONE, ".env.example", *EXCLUDED])
def test_an_edited_file_that_is_rendered_no_longer_stays(
    project: Path, path: str, capfd: pytest.CaptureFixture[str]
) -> None:
    append(project / path, b"\nMINE = True\n")
    (project / path).chmod(0o755)
    commit(project)
    update(project, LATER)
    assert git(project, "status", "--porcelain", "--", path) == ""
    assert [line[:6] for line in said(capfd, path)] == (["kept: "] if path != EXCLUDED[-1] else [])
    commit(project)
    update(project, copier.VcsRef.CURRENT)
    assert git(project, "status", "--porcelain") == ""


def test_files_the_user_deleted_or_renamed_are_left_alone(
    projects: Projects, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mine = write(project / "src/weather_api/mine.py", (project / OLD).read_bytes() + b"\nMINE = True\n")
    (project / OLD).unlink()
    (project / GONE).unlink()
    commit(project)
    update(project, LATER)
    owned = {EXCLUDED[-1]: (project / EXCLUDED[-1]).read_bytes(), "src/weather_api/mine.py": mine}
    assert tree(project) == tree(projects.pristine(LATER, "one key")) | owned
    assert OLD not in (error := capfd.readouterr().err)
    assert GONE not in error


def test_the_new_name_was_taken(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    append(project / OLD, b"\nMINE = True\n")
    write(project / NEW, b"VITALS = 1\n")
    commit(project)
    update(project, LATER)
    assert git(project, "status", "--porcelain", "--", OLD) == ""
    assert "VITALS = 1\n" in (project / NEW).read_text()
    assert said(capfd, OLD)[0].startswith("kept: ")


# A renamed file without its line


def managed_renames(repository: Path, since: str) -> list[str]:
    """The lines that `_migrations` needs for what was renamed in the template after `since`: `old=new`."""
    found = git(
        repository, "diff", "--name-status", "--diff-filter=R", "--find-renames=40%", "-l0", since, "--", "template"
    )
    lines = []
    for _, *names in (line.split("\t") for line in found.splitlines()):
        old, new = (
            name.removeprefix("template/").removesuffix(".jinja").replace("{{ package_name }}", "*") for name in names
        )
        if old != new and not USER_OWNED.match(old):
            lines.append(f"{old}={new}")
    return lines


def renames_without_a_line(repository: Path, since: str) -> list[str]:
    """Files that a later version may have renamed again: only the old name has to be on the left."""
    migrations = yaml.safe_load((repository / "copier.yml").read_text())["_migrations"]
    told = {str(word).partition("=")[0] for migration in migrations for word in migration["command"] if "=" in word}
    return [line for line in managed_renames(repository, since) if line.partition("=")[0] not in told]


def test_every_rename_since_the_last_version_has_its_line() -> None:
    tags = git(ROOT, "tag", "--merged", "HEAD", "--sort=-version:refname", "v*").split()
    assert [renames_without_a_line(ROOT, tag) for tag in tags[:1]] in ([], [[]])


def test_a_rename_without_its_line_is_found(projects: Projects, tmp_path: Path) -> None:
    repository = tmp_path / "template"
    shutil.copytree(projects.template, repository)
    assert renames_without_a_line(repository, NEXT) == []
    module, rendered = repository / PACKAGE / "sources.py", repository / "template/docker-compose.yml.jinja"
    module.rename(module.with_name("lookup.py"))
    rendered.rename(rendered.with_name("compose.yml.jinja"))
    (repository / PACKAGE / "tools/example.py").rename(repository / PACKAGE / "tools/sample.py")
    git(repository, "add", "--all")
    missing = ["docker-compose.yml=compose.yml", "src/*/sources.py=src/*/lookup.py"]
    assert sorted(renames_without_a_line(repository, NEXT)) == missing
    settings = repository / "copier.yml"
    settings.write_text(settings.read_text().replace(RENAME, f"{RENAME}      - {missing[1]}\n"))
    assert renames_without_a_line(repository, NEXT) == missing[:1]


def test_what_git_cannot_merge_is_kept(projects: Projects, project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    mine = write(project / OLD, bytes(range(256)))
    commit(project)
    update(project, LATER)
    owned = {EXCLUDED[-1]: (project / EXCLUDED[-1]).read_bytes(), OLD: mine}
    assert tree(project) == tree(projects.pristine(LATER, "one key")) | owned
    assert said(capfd, OLD)[0].startswith("kept: ")


@pytest.mark.parametrize("module", ["inbound.py", "answers.py", "cli.py"])
def test_a_new_package_name_takes_edits_along(project: Path, module: str, capfd: pytest.CaptureFixture[str]) -> None:
    old, new = f"src/weather_api/{module}", f"src/weather/{module}"
    append(project / old, b"\nMINE = True\n")
    commit(project)
    update(project, copier.VcsRef.CURRENT, package_name="weather")
    assert (project / new).read_text().endswith("\nMINE = True\n")
    assert not (project / old).exists()
    assert (project / "src/weather_api/tools/example.py").exists()
    error = capfd.readouterr().err.splitlines()
    moved = "src/weather_api: what is left there is yours. Move it: git mv src/weather_api/... src/weather/"
    assert [line for line in error if not line.startswith(" > ")] == [f"{old}: now {new}, with your changes", moved]


def test_a_new_package_name_and_no_edits(projects: Projects, project: Path, tmp_path: Path) -> None:
    update(project, copier.VcsRef.CURRENT, package_name="weather")
    answers = {"package_name": "weather", "auth_keys": "WEATHER_API_KEY", "command_name": "weather-api"}
    copied = copy_template(projects.template, tmp_path / "copied/weather-api", answers, NEXT)
    left, expected = (
        {name: text for name, text in tree(it).items() if "/tools/" not in name} for it in (project, copied)
    )
    assert left == expected


def test_a_template_behind_an_address(
    projects: Projects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COPIER_CACHE_DIR", str(tmp_path / "cache"))
    git(tmp_path, "clone", "--quiet", "--bare", str(projects.template), "template.git")
    address = (tmp_path / "template.git").as_uri()
    project = copy_template(address, tmp_path / "weather-api", {})
    append(project / OLD, b"\nMINE = True\n")
    gone = append(project / GONE, b"\nMINE = True\n")
    commit(project)
    update(project, LATER)
    assert f"_src_path: {address}\n" in (project / ".copier-answers.yml").read_text()
    expected = tree(copy_template(address, tmp_path / "copied/weather-api", {}, LATER))
    owned = {EXCLUDED[-1]: (project / EXCLUDED[-1]).read_bytes()}
    expected |= {NEW: expected[NEW] + b"\nMINE = True\n", GONE: gone} | owned
    assert tree(project) == expected
    assert f"{OLD}: now {NEW}, with your changes" in capfd.readouterr().err

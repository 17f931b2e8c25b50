"""A later version renames or deletes managed files: what the user had changed in them is kept, and said."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import copier
import pytest
from conftest import NEXT, commit, copy_template, git
from updates import Projects, append, clones_kept, release, tree, unmerged, update, with_past, write

LATER = "v9999.1.0"
PACKAGE = "template/src/{{ package_name }}"
OLD, NEW, GONE = (f"src/weather_api/{name}.py" for name in ("inbound", "vitals", "logs"))
RENAME = "      - src/*/inbound.py=src/*/vitals.py\n"


@pytest.fixture(scope="module", autouse=True)
def _fast_clones(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with clones_kept(tmp_path_factory.mktemp("clones")):
        yield


@pytest.fixture(scope="module")
def projects(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Projects:
    """Projects of a template whose last version, LATER, renames one module and deletes another, and one rendered file."""
    folder = tmp_path_factory.mktemp("projects")
    repository = with_past(template, folder / "template")
    module = repository / PACKAGE / "inbound.py"
    write(repository / PACKAGE / "vitals.py", b"# The new top\n" + module.read_bytes())
    for path in (module, repository / PACKAGE / "logs.py", repository / "template/.env.example.jinja"):
        path.unlink()
    settings = repository / "copier.yml"
    settings.write_text(re.sub(r'(keep_edits\.py"\n.*\n)', rf"\1{RENAME}", settings.read_text()))
    assert RENAME in settings.read_text()
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
    assert tree(project) == tree(projects.pristine(LATER, "one key"))
    error = capfd.readouterr().err
    assert f"{OLD}: " not in error
    assert f"{GONE}: " not in error
    assert ".env.example: removed; if you had changed it" in error  # rendered: nobody can tell


def test_an_edited_file_that_was_deleted_comes_back(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    append(project / GONE, b"\nMINE = True\n")
    (project / GONE).chmod(0o755)
    commit(project)
    update(project, LATER)
    assert git(project, "status", "--porcelain", "--", GONE) == ""
    assert said(capfd, GONE)[0].startswith("kept: ")
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
    assert tree(project) == {**tree(projects.pristine(LATER, "one key")), "src/weather_api/mine.py": mine}
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


def test_what_git_cannot_merge_is_kept(projects: Projects, project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    mine = write(project / OLD, bytes(range(256)))
    commit(project)
    update(project, LATER)
    assert tree(project) == {**tree(projects.pristine(LATER, "one key")), OLD: mine}
    assert said(capfd, OLD)[0].startswith("kept: ")


def test_a_new_package_name_takes_edits_along(project: Path) -> None:
    append(project / OLD, b"\nMINE = True\n")
    commit(project)
    update(project, copier.VcsRef.CURRENT, package_name="weather")
    assert (project / "src/weather/inbound.py").read_text().endswith("\nMINE = True\n")
    assert not (project / OLD).exists()
    assert (project / "src/weather_api/tools/example.py").exists()


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
    expected |= {NEW: expected[NEW] + b"\nMINE = True\n", GONE: gone}
    assert tree(project) == expected
    assert f"{OLD}: now {NEW}, with your changes" in capfd.readouterr().err

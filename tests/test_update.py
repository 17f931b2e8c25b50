"""`copier update` brings a project to where a new copy would be, and keeps every byte its user wrote."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import cycle, product
from pathlib import Path

import copier
import pytest
from conftest import NEXT, commit, copy_template, git
from updates import (
    ANSWERS,
    EDITS,
    OLDER,
    Edits,
    Projects,
    add_tools,
    after_update,
    append,
    clones_kept,
    edit_a_tool,
    edit_a_tool_and_delete_a_managed_file,
    fill_in_secrets,
    tree,
    unmerged,
    update,
    with_past,
    write,
)

HEALTH = "src/weather_api/inbound.py"


@pytest.fixture(scope="module", autouse=True)
def _fast_clones(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with clones_kept(tmp_path_factory.mktemp("clones")):
        yield


@pytest.fixture(scope="session")
def projects(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Projects:
    folder = tmp_path_factory.mktemp("projects")
    return Projects(with_past(template, folder / "template"), folder)


def copier_command(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Copier's own command in `project`."""
    command = [sys.executable, "-W", "ignore", "-m", "copier", *arguments]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False, timeout=120)


# Every edit meets all answers and both versions, and every version all answers; all triples would take twice as long.
CELLS = [
    pytest.param(version, answers, edit, id=f"{version}-{answers}-{edit.__name__}")
    for (edit, answers), version in zip(product(EDITS, ANSWERS), cycle(OLDER), strict=False)
]


@pytest.mark.parametrize(("version", "answers", "edit"), CELLS)
def test_update_equals_copy_and_keeps_edits(
    projects: Projects, tmp_path: Path, version: str, answers: str, edit: Callable[[Path], Edits]
) -> None:
    project = projects.new(version, answers, tmp_path)
    edits = edit(project)
    commit(project)
    expected = after_update(tree(projects.pristine(NEXT, answers)), tree(project), edits)
    update(project)
    assert tree(project) == expected  # so no .rej and no conflict markers either
    assert unmerged(project) == set()


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_updating_again_changes_nothing(projects: Projects, tmp_path: Path, edit: Callable[[Path], Edits]) -> None:
    project = projects.new(NEXT, "one key", tmp_path)
    edit(project)
    commit(project)
    before = tree(project)
    update(project, copier.VcsRef.CURRENT)
    assert tree(project) == before
    assert git(project, "status", "--porcelain") == ""


@pytest.mark.parametrize(("answers", "version"), list(zip(ANSWERS, cycle(OLDER), strict=False)))
def test_both_sides_changed_a_line(projects: Projects, tmp_path: Path, version: str, answers: str) -> None:
    project = projects.new(version, answers, tmp_path)
    text = (project / HEALTH).read_text()
    (project / HEALTH).write_text(text.replace(f"# The top in {version}", "# My own top"))
    edit_a_tool(project)
    commit(project)
    expected = after_update(tree(projects.pristine(NEXT, answers)), tree(project), {})
    update(project)
    assert unmerged(project) == {HEALTH}
    found = tree(project)
    conflict, ours = found.pop(HEALTH).decode(), expected.pop(HEALTH).decode()
    assert conflict.count("<<<<<<< before updating") == conflict.count(">>>>>>> after updating") == 1
    assert "# My own top" in conflict
    assert ours.splitlines()[-1] in conflict
    assert f"The middle in {version}" not in conflict
    assert found == expected


@pytest.mark.parametrize("version", OLDER)
def test_the_command_says_what_to_do_next(projects: Projects, tmp_path: Path, version: str) -> None:
    project = projects.new(version, "one key", tmp_path)
    edits = edit_a_tool_and_delete_a_managed_file(project)
    commit(project)
    expected = after_update(tree(projects.pristine(NEXT, "one key")), tree(project), edits)
    done = copier_command(project, "update", "--trust", "--defaults")
    assert done.returncode == 0, done.stderr
    assert "git status" in done.stderr
    assert tree(project) == expected
    assert f"_commit: {NEXT}\n".encode() in expected[".copier-answers.yml"]


def test_own_tests_pass_after_updates_through_every_version(projects: Projects, tmp_path: Path) -> None:
    project = projects.new(next(iter(OLDER)), "one key", tmp_path)
    for version in [*OLDER, NEXT][1:]:
        add_tools(project)
        commit(project)
        update(project, version)
    command = [sys.executable, "-m", "pytest", "-p", "no:copie", "-p", "no:xdist", "-p", "no:cacheprovider", "-q"]
    # The others are run in freshly rendered projects, whose bytes are the same (see above).
    command += ["tests/test_cli.py", "tests/test_client.py", "tests/tools"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = str(project / "src")
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_a_project_in_a_folder_of_a_larger_repository(projects: Projects, tmp_path: Path) -> None:
    project = projects.new("v0.1.0", "one key", tmp_path / "servers")
    shutil.rmtree(project / ".git")
    edits = edit_a_tool(project) | fill_outside_git(project)
    commit(tmp_path)
    expected = after_update(tree(projects.pristine(NEXT, "one key")), tree(project), edits)
    update(project)
    assert tree(project) == expected
    assert unmerged(tmp_path) == set()


def fill_outside_git(project: Path) -> Edits:
    return {".env": write(project / ".env", b"s3cret\n")}


def test_recopy_keeps_tools_and_secrets(projects: Projects, tmp_path: Path) -> None:
    project = projects.new("v0.1.0", "one key", tmp_path)
    edits = fill_in_secrets(project)
    edit_a_tool(project)
    add_tools(project)
    before = tree(project)
    copier.run_recopy(
        project, vcs_ref=NEXT, defaults=True, overwrite=True, quiet=True, unsafe=True, settings=copier.Settings()
    )
    kept = {name for name in before if "/tools/" in name} | set(edits)
    assert {name: tree(project)[name] for name in kept} == {name: before[name] for name in kept}


# Lines that end in CRLF, as editors on Windows save them


SAVED_WITH_CRLF = ("pyproject.toml", "README.md", "src/weather_api/inbound.py", ".env.example")


@pytest.mark.parametrize("version", OLDER)  # the first has no .gitattributes
@pytest.mark.parametrize("name", SAVED_WITH_CRLF)
def test_a_file_saved_with_crlf_is_merged(projects: Projects, tmp_path: Path, version: str, name: str) -> None:
    project = projects.new(version, "one key", tmp_path)
    picture = write(project / "docs/picture", bytes(range(256)) + b"\r\n" * 99)
    own = write(project / "src/weather_api/tools/example.py", b"MINE = 1\r\n")
    notes = write(project / "notes.txt", b"one\r\ntwo\r\n")
    edited = append(project / name, b"\n# Mine\n")
    lines = edited.count(b"\n") - (name == "README.md")  # of which one line keeps its LF
    write(project / name, edited.replace(b"\n", b"\r\n", lines))
    commit(project)
    expected = after_update(tree(projects.pristine(NEXT, "one key")), tree(project), {name: b"\n# Mine\n"})
    expected |= {"docs/picture": picture, "notes.txt": notes, "src/weather_api/tools/example.py": own}
    update(project)
    assert unmerged(project) == set()
    staged = git(project, "diff", "--cached", "--name-only").split()
    assert not {"src/weather_api/tools/example.py", "notes.txt", "docs/picture"} & {*staged}
    found = tree(project)
    assert {**found, name: found[name].replace(b"\r\n", b"\n")} == expected


def test_the_users_own_attributes_stay(projects: Projects, tmp_path: Path) -> None:
    project = projects.new("v0.1.0", "one key", tmp_path)
    mine = write(project / ".gitattributes", b"*.png binary\n")
    commit(project)
    update(project)
    assert (project / ".gitattributes").read_bytes() == mine
    assert unmerged(project) == set()


# Answers that change later


def test_workflow_goes_and_comes_back(projects: Projects, tmp_path: Path) -> None:
    project = projects.new(NEXT, "one key", tmp_path)
    copied = tree(project)
    update(project, copier.VcsRef.CURRENT, github_actions=False)
    assert not (project / ".github").exists()
    commit(project)
    update(project, copier.VcsRef.CURRENT, github_actions=True)
    assert tree(project) == copied


def test_workflow_that_was_edited_stays(projects: Projects, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    project = projects.new(NEXT, "one key", tmp_path)
    workflow = project / ".github/workflows/ci.yml"
    append(workflow, b"# mine\n")
    commit(project)
    update(project, copier.VcsRef.CURRENT, github_actions=False)
    assert workflow.read_bytes().endswith(b"# mine\n")
    assert ".github/workflows/ci.yml: kept: " in capfd.readouterr().err


@pytest.mark.parametrize(
    "changed",
    [
        {"auth_keys": "WEATHER_USER, WEATHER_PASSWORD", "api_auth": "basic"},
        {"api_auth": "query", "api_key_parameter": "appid"},
        {"auth_keys": "", "api_auth": "none"},
    ],
    ids=["basic", "query", "none"],
)
def test_credentials_answered_anew(projects: Projects, tmp_path: Path, changed: dict[str, str]) -> None:
    project = projects.new(NEXT, "one key", tmp_path)
    edits = fill_in_secrets(project)
    edit_a_tool(project)
    commit(project)
    before = tree(project)
    copied = copy_template(projects.template, tmp_path / "copied/weather-api", changed)
    update(project, copier.VcsRef.CURRENT, **changed)
    assert tree(project) == after_update(tree(copied), before, edits)


def test_a_template_that_moved(projects: Projects, tmp_path: Path) -> None:
    """As the README mends it: the new address, a commit, an update."""
    old, new = tmp_path / "old", tmp_path / "new"
    git(tmp_path, "clone", "--quiet", str(projects.template), str(old))
    project = copy_template(old, tmp_path / "weather-api", {}, "v0.2.0")
    commit(project)
    old.rename(new)
    answers = project / ".copier-answers.yml"
    answers.write_text(answers.read_text().replace(f"_src_path: {old}\n", f"_src_path: {new}\n"))
    commit(project)
    update(project)
    assert f"_commit: {NEXT}\n_src_path: {new}\n" in answers.read_text()
    copied = tree(copy_template(new, tmp_path / "copied/weather-api", {}, NEXT))
    assert {name for name, text in copied.items() if tree(project).get(name) != text} <= {
        name for name in copied if "/tools/" in name
    }


# What Copier says


def test_check_update_tells_by_its_exit_code(projects: Projects, tmp_path: Path) -> None:
    old, new = (projects.new(tag, "no keys", tmp_path / tag) for tag in ("v0.2.0", NEXT))
    assert copier_command(old, "check-update", "--quiet").returncode == 2
    assert copier_command(new, "check-update", "--quiet").returncode == 0


@pytest.mark.parametrize(
    ("spoil", "options", "code", "message"),
    [
        (lambda project: append(project / "README.md", b"x"), ("--trust",), 1, "Destination repository is dirty"),
        (lambda project: write(project / "notes", b"x"), ("--trust",), 1, "Destination repository is dirty"),
        (lambda project: shutil.rmtree(project / ".git"), ("--trust",), 1, "only supported in git-tracked subprojects"),
        (lambda project: None, (), 4, "--trust"),
    ],
    ids=["edited", "untracked", "not git", "not trusted"],
)
def test_refusals_change_nothing(
    projects: Projects,
    tmp_path: Path,
    spoil: Callable[[Path], object],
    options: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    project = projects.new("v0.2.0", "one key", tmp_path)
    spoil(project)
    before = tree(project)
    done = copier_command(project, "update", "--defaults", *options)
    assert done.returncode == code, done.stderr
    assert message in " ".join(done.stderr.split())
    assert tree(project) == before

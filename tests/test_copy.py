"""The questions: what each answer gives, and what a wrong one is told."""

from __future__ import annotations

import ast
import os
import re
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import copier
import pexpect
import pytest
import yaml
from conftest import NEXT, copy_template
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pytest_copie.plugin import Copie

COPIER = str(Path(sys.executable).with_name("copier"))


def constants(project: Path) -> dict[str, object]:
    """The constants of a rendered project, read without running it."""
    (path,) = project.glob("src/*/answers.py")
    found: dict[str, object] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            found[node.target.id] = ast.literal_eval(node.value)
    return found


def test_defaults_come_from_the_destination_folder(copie: Copie, template: Path, tmp_path: Path) -> None:
    result = copie.copy(template_dir=template, vcs_ref=NEXT)
    assert result.exception is None
    assert result.project_dir is not None
    project = copy_template(template, tmp_path / "weather-api", {})
    assert constants(project) == {
        "SERVER_NAME": "Weather Api",
        "COMMAND": "weather-api",
        "DESCRIPTION": "Tools of Weather Api for MCP clients",
        "AUTH_KEYS": ("WEATHER_API_KEY",),
        "OTHER_KEYS": (),
        "SECRET_FILES": ("WEATHER_API_KEY", "MCP_BEARER_TOKENS"),
        "MAY_BE_EMPTY": (),
        "API_BASE_URL": "https://api.example.com",
        "API_AUTH": "header",
        "API_AUTH_NAME": "X-API-Key",
        "MEND_COMMAND": "secrets",
    }


NAMES = [
    ("Weather API", "weather_api", "weather-api"),
    ("Wetter Zürich", "wetter_zurich", "wetter-zurich"),
    ("天気サーバー", "tools_server", "tools-server"),
    ("🚀", "tools_server", "tools-server"),
    ("Rocket 🚀 launches 👩‍🚀", "rocket_launches", "rocket-launches"),
    ("3D printer", "server_3d_printer", "server-3d-printer"),
    ('Bob\'s "best" \\ API', "bob_s_best_api", "bob-s-best-api"),
    ("{{ 7 * 7 }} {% raw %} {#", "server_7_7_raw", "server-7-7-raw"),
    ("<script>*alert*</script> & _co_ | `x`", "script_alert_script_co_x", "script-alert-script-co-x"),
    ("Calendar", "calendar_server", "calendar-server"),
    ("class", "class_server", "class-server"),
    ("HTTPX", "httpx_server", "httpx-server"),
    ("tests", "tests_server", "tests-server"),
    ("Python", "python_server", "python-server"),
    ("Long " + "name " * 18 + "end", "long_" + "name_" * 8 + "name", "long-" + "name-" * 8 + "name"),
]


@pytest.mark.parametrize(("name", "package", "command"), NAMES)
def test_an_awkward_name_gives_a_right_project(
    render: Callable[..., Path], name: str, package: str, command: str
) -> None:
    project = render(server_name=name)
    assert constants(project)["SERVER_NAME"] == name
    assert constants(project)["COMMAND"] == command
    assert (project / "src" / package / "server.py").is_file()
    metadata = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert metadata["name"] == command
    assert metadata["description"] == f"Tools of {name} for MCP clients"
    # Markdown shows a backslash-escaped character as itself.
    title = (project / "README.md").read_text(encoding="utf-8").splitlines()[0]
    assert re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", title) == f"# {name}"


REFUSED = [
    ({"server_name": ""}, "server_name is empty: write at least one word."),
    ({"server_name": "a\nb"}, r"server_name='a\nb' contains '\n': one line of text, without control characters."),
    ({"server_name": "x" * 200}, "server_name has 200 characters ('xxxxxxxxxxxxxxxxxxxx'…): at most 100."),
    ({"server_name": " x"}, "server_name=' x' begins or ends with a blank: leave it out."),
    ({"server_name": "a\u202eb"}, "without control characters."),
    ({"description": "x" * 301}, "description has 301 characters"),
    ({"package_name": "Weather"}, "package_name='Weather' is not a package name"),
    ({"package_name": "my-pkg"}, "package_name='my-pkg' is not a package name"),
    ({"package_name": "naïve"}, "package_name='naïve' is not a package name"),
    ({"package_name": "import"}, "package_name=import is a Python keyword"),
    ({"package_name": "match"}, "package_name=match is a Python keyword"),
    ({"package_name": "json"}, "package_name=json is a module of the standard library"),
    ({"package_name": "mcp"}, "package_name=mcp is taken in the server's own environment"),
    ({"package_name": "dotenv"}, "package_name=dotenv is taken"),
    ({"package_name": "tests"}, "package_name=tests is taken"),
    ({"command_name": "a b"}, "command_name='a b' is not a command name"),
    ({"command_name": "../x"}, "command_name='../x' is not a command name"),
    ({"command_name": "python"}, "command_name=python is the name of another program"),
    ({"command_name": "python-dotenv"}, "command_name=python-dotenv is the name of another program"),
    ({"auth_keys": "weather_key"}, "auth_keys: 'weather_key' is not the name of an environment variable"),
    ({"auth_keys": "A, sk-live-51H8x"}, "Names only, never the key itself."),
    ({"auth_keys": "A, B, A"}, "auth_keys: A is named twice"),
    ({"auth_keys": "PATH"}, "auth_keys: PATH is used by the system or by the server itself"),
    ({"auth_keys": "PYTHONPATH"}, "auth_keys: PYTHONPATH is used"),
    ({"auth_keys": "MCP_BEARER_TOKENS"}, "auth_keys: MCP_BEARER_TOKENS is used"),
    ({"auth_keys": "KEY_FILE"}, "auth_keys: KEY_FILE ends in _FILE"),
    ({"api_base_url": "api.example.com"}, "api_base_url='api.example.com' is not an address"),
    ({"api_base_url": "http://api.example.com"}, "would send credentials unencrypted"),
    ({"api_base_url": "https://user:pw@api.example.com"}, "api_base_url has a user or password before api.example.com"),
    ({"api_base_url": "https://api.example.com/?key=1"}, "ends in a query or fragment"),
    ({"api_base_url": 'https://x"y'}, "is not an address"),
    ({"api_base_url": "https://x:99999"}, "is not an address"),
    ({"api_auth": "basic", "auth_keys": "A"}, "api_auth=basic needs two names (user, then password) in auth_keys"),
    ({"api_auth": "header", "auth_keys": ""}, "api_auth=header needs a name in auth_keys, which has 0"),
    ({"api_key_header": "X: y"}, "api_key_header='X: y' is not a header name"),
    ({"api_key_header": "Host"}, "api_key_header=Host is a header that the HTTP client sets itself"),
    ({"api_auth": "query", "api_key_parameter": "a&b"}, "api_key_parameter='a&b' is not a parameter name"),
    ({"api_auth": "cookie"}, "Invalid choice"),
    ({"oauth_provider": "myspace"}, "Invalid choice"),
    ({"api_auth": "oauth"}, "api_auth=oauth needs an oauth_provider to sign in to, which is none"),
    ({"oauth_provider": "github", "oauth_scopes": "repo, gist"}, "oauth_scopes: 'repo,' is not a scope"),
    ({"oauth_provider": "azure", "azure_tenant_id": "my tenant"}, "azure_tenant_id='my tenant' is not a tenant"),
    (
        {"oauth_provider": "custom", "oauth_issuer": "auth.example.com"},
        "oauth_issuer='auth.example.com' is not an address",
    ),
    (
        {"oauth_provider": "custom", "oauth_issuer": "", "oauth_token_url": "http://auth.example.com/token"},
        "oauth_token_url='http://auth.example.com/token' would send credentials unencrypted",
    ),
]


@pytest.mark.parametrize(
    ("answers", "message"), REFUSED, ids=[next(iter(a)) + f"-{i}" for i, (a, _) in enumerate(REFUSED)]
)
def test_a_wrong_answer_is_told_its_value_and_the_rule(
    template: Path, tmp_path: Path, answers: dict[str, str], message: str
) -> None:
    with pytest.raises((ValueError, copier.errors.CopierError)) as raised:
        copy_template(template, tmp_path / "project", answers)
    assert message in str(raised.value)
    assert not (tmp_path / "project").exists()


@pytest.mark.parametrize(
    "written", ["A, B_2", "A B_2", "A,B_2", "[A, B_2]", "['A', \"B_2\"]", ["A", "B_2"], "- A\n- B_2"]
)
def test_keys_can_be_written_in_any_usual_way(render: Callable[..., Path], written: object) -> None:
    assert constants(render(auth_keys=written))["AUTH_KEYS"] == ("A", "B_2")


@pytest.mark.parametrize("written", ["", "none", "[]", []])
def test_no_keys_are_allowed_too(render: Callable[..., Path], written: object) -> None:
    found = constants(render(auth_keys=written))
    assert (found["AUTH_KEYS"], found["API_AUTH"]) == ((), "none")


def test_no_secret_is_asked_for_or_stored(render: Callable[..., Path], template: Path) -> None:
    questions = yaml.safe_load((template / "copier.yml").read_text())
    assert not [name for name, question in questions.items() if isinstance(question, dict) and question.get("secret")]
    stored = yaml.safe_load((render() / ".copier-answers.yml").read_text())
    assert {name for name in stored if not name.startswith("_")} <= set(questions)
    assert "credentials" not in stored  # computed


def test_every_question_has_a_default_and_a_help_text(template: Path) -> None:
    for name, question in yaml.safe_load((template / "copier.yml").read_text()).items():
        if not name.startswith("_"):
            assert "default" in question, name
            assert question.get("when") is False or len(question["help"]) > 20, name


def test_two_copies_are_the_same_bytes(template: Path, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        copy_template(template, tmp_path / folder / "weather-api", {"auth_keys": "A,B"})
    files = [path for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_github_actions_can_be_left_out(render: Callable[..., Path]) -> None:
    assert (render() / ".github" / "workflows" / "ci.yml").is_file()
    assert not (render(github_actions=False) / ".github").exists()


def cli(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COPIER, *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=60)


def test_the_command_line_as_the_readme_has_it(template: Path, tmp_path: Path) -> None:
    done = cli("copy", "--trust", "--defaults", "-d", "auth_keys=A,B", str(template), "weather-api", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "uv run weather-api secrets" in done.stderr
    assert constants(tmp_path / "weather-api")["AUTH_KEYS"] == ("A", "B")
    answers = yaml.safe_load((tmp_path / "weather-api" / ".copier-answers.yml").read_text())
    assert (answers["_commit"], answers["_src_path"]) == (NEXT, str(template))


def test_what_copier_itself_says(template: Path, tmp_path: Path) -> None:
    """The README describes these; where Copier gets better, it can say less."""
    untrusted = cli("copy", "--defaults", str(template), "x", cwd=tmp_path)
    assert (untrusted.returncode, "--trust" in untrusted.stderr) == (4, True)
    misspelt = cli("copy", "--trust", "--defaults", "-d", "auth_kys=A", str(template), "y", cwd=tmp_path)
    assert misspelt.returncode == 0
    assert constants(tmp_path / "y")["AUTH_KEYS"] == ("Y_API_KEY",)
    wrong = cli("copy", "--trust", "--defaults", "-d", "auth_keys=path", str(template), "z", cwd=tmp_path)
    assert wrong.returncode == 1
    last = wrong.stderr.strip().splitlines()[-1]
    assert last.startswith("ValueError: Validation error for question 'auth_keys': auth_keys: 'path' is not the name")
    assert not (tmp_path / "z").exists()


def test_the_prompts_in_a_terminal(template: Path, tmp_path: Path) -> None:
    """Every question in order, one wrong answer corrected in place."""
    child = pexpect.spawn(
        COPIER,
        ["copy", "--trust", str(template), "weather-api"],
        cwd=str(tmp_path),
        env={**os.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"},
        encoding="utf-8",
        dimensions=(50, 200),
        timeout=30,
    )

    def answer(question: str, text: str, *, clear: bool = False) -> None:
        child.expect(question)
        child.send(("\x01\x0b" if clear else "") + text + "\r")

    answer("Name of the server", "")
    answer("Python package", "")
    answer("Command that starts", "")
    answer("One sentence", "")
    answer("OAuth provider", "")
    answer("Environment variables that hold", "weather_key", clear=True)
    child.expect("is not the name of an environment variable")
    child.send("\x01\x0bUSER_NAME_, PASS_WORD\r")
    answer("Address of the API", "https://weather.example.com/v2", clear=True)
    answer("How the credential travels", "\x1b[B\x1b[B")  # two down: HTTP Basic
    answer("GitHub Actions workflow", "n")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    found = constants(tmp_path / "weather-api")
    assert found["SERVER_NAME"] == "Weather Api"
    assert found["AUTH_KEYS"] == ("USER_NAME_", "PASS_WORD")
    assert (found["API_AUTH"], found["API_BASE_URL"]) == ("basic", "https://weather.example.com/v2")
    assert not (tmp_path / "weather-api" / ".github").exists()


def test_the_version_pins_are_the_ones_that_are_tested(render: Callable[..., Path], template: Path) -> None:
    rendered = tomllib.loads((render(oauth_provider="github") / "pyproject.toml").read_text())
    needed = [*rendered["project"]["dependencies"], *rendered["dependency-groups"]["dev"]]
    groups = tomllib.loads((template / "pyproject.toml").read_text())["dependency-groups"]
    assert sorted(needed) == sorted(groups["rendered"])
    assert all("<" in requirement for requirement in needed)


def requirements(name: str, seen: set[str]) -> set[str]:
    """The distributions that `name` brings on this platform, itself included."""
    name = canonicalize_name(name)
    if name not in seen:
        seen.add(name)
        for text in metadata.requires(name) or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                requirements(requirement.name, seen)
    return seen


def test_no_package_may_be_called_like_a_module_that_the_server_needs(
    render: Callable[..., Path], template: Path
) -> None:
    needed: set[str] = set()
    for text in tomllib.loads((render() / "pyproject.toml").read_text())["project"]["dependencies"]:
        requirements(Requirement(text).name, needed)
    modules = {
        module
        for module, owners in metadata.packages_distributions().items()
        if needed & {canonicalize_name(owner) for owner in owners} and re.fullmatch(r"[a-z][a-z0-9_]*", module)
    }
    assert {"mcp", "httpx", "keyring", "dotenv"} <= modules
    names: dict[str, Any] = runpy.run_path(str(template / "extensions" / "answers.py"))
    assert [module for module in sorted(modules) if not names["package_name_error"](module)] == []
    assert [name for name in sorted(needed) if not names["command_name_error"](name)] == []

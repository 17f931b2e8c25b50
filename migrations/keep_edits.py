"""After an update, carry along what a user had changed in managed files that are gone or have a new name.

Copier by itself deletes such a file, edits and all, writes the new one without them, and exits 0. This runs after every
update, from `_migrations` in copier.yml. A version that deletes a file needs to say nothing; so does one that renders it
no longer for some answers. A version that renames a file adds a line to the command there, after the package's, which
then stays:

    - src/*/health.py=src/*/status.py

`*` is the package's folder. Old names stay on the left; if the file moves again, the right side of each line that leads
to it changes to its newest name, because updates skip versions.

What the user had changed shows against the old version, rendered once more with the answers of then. Files are merged
three ways: from that, to the user's, and to the new one. What the user had not changed, or had deleted or renamed, is
left alone. Running it again changes nothing.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import warnings
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml  # Copier's own

TEMPLATE = Path(__file__).resolve().parent.parent  # Copier's clone of the new version, with the history of the old


def main(package: str, *arguments: str) -> None:
    """Keep edits to the files that Copier removed, and say so on stderr, a line for each."""
    *renamed, answers_file = arguments
    renames = dict(rename.split("=") for rename in renamed)
    answers = yaml.safe_load(git("cat-file", "blob", f"HEAD:./{answers_file}") or b"{}")
    with tempfile.TemporaryDirectory() as folder:
        before = Path(folder, "before")
        if setting("VERSION_FROM", "_exclude") != setting("VERSION_TO", "_exclude"):
            remove_what_is_left(Path(folder), answers, yaml.safe_load(Path(answers_file).read_bytes()))
        # Copier starts on a clean tree only, so what is missing now is what it removed.
        for old in listed("--deleted"):
            if not before.exists():
                render("VERSION_FROM", answers, before)
            new = renames.get(general(old), general(old)).replace("*", package)
            done = keep(before / old, old, new)
            if done:
                print(f"{old}: {done}", file=sys.stderr)
    was = answers.get("package_name", package)
    if was != package and listed(f"src/{was}"):
        print(f"src/{was}: what is left there is yours. Move it: git mv src/{was}/... src/{package}/", file=sys.stderr)


def general(path: str) -> str:
    """`path` without the name that the package has in this project."""
    return re.sub("^src/[^/]+/", "src/*/", path)


def listed(*arguments: str) -> list[str]:
    return (git("ls-files", "-z", *arguments) or b"").decode(errors="surrogateescape").split("\0")[:-1]


def setting(version: str, name: str) -> Any:
    """A setting of the template at VERSION_FROM or VERSION_TO."""
    questions = git("cat-file", "blob", f"{os.environ[version]}:copier.yml", folder=TEMPLATE)
    return yaml.safe_load(questions or b"{}").get(name)


def render(version: str, answers: dict[str, Any], destination: Path) -> None:
    """Render the template at VERSION_FROM or VERSION_TO as it was, or will be, for this project."""
    import copier  # slow, and seldom needed

    with warnings.catch_warnings(action="ignore"):
        copier.run_copy(
            str(TEMPLATE),
            destination,
            data={name: value for name, value in answers.items() if not name.startswith("_")},
            vcs_ref=os.environ[version],
            defaults=True,
            quiet=True,
            unsafe=True,
            skip_tasks=True,
            settings=copier.Settings(),
        )


def remove_what_is_left(folder: Path, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Remove the files that the new version has, but by its `_exclude` renders no longer for these answers.

    Copier does not look at what is excluded, so they would stay in the project without ever getting a fix. Edits come
    back with the files that Copier removed.
    """
    render("VERSION_FROM", before, folder / "before")
    render("VERSION_TO", after, folder / "after")
    rendered = {general(path) for path in files(folder / "after")}
    owned = setting("VERSION_TO", "_skip_if_exists") or []
    tracked = set(listed())
    for path in files(folder / "before"):
        excluded = general(path) not in rendered and in_template(path)
        if excluded and path in tracked and not any(fnmatch(f"/{path}", pattern) for pattern in owned):
            Path(path).unlink(missing_ok=True)


def files(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def in_template(path: str) -> bool:
    name = general(path).replace("*", "{{ package_name }}")
    return any((TEMPLATE / f"template/{name}{suffix}").is_file() for suffix in ("", ".jinja"))


def keep(rendered: Path, old: str, new: str) -> str | None:
    """Keep the edits to `old`, which the old version renders as `rendered`; return what to tell the user."""
    mine = git("cat-file", "blob", f":./{old}")  # of the index, which line_endings.py mended
    if mine is None or not rendered.is_file():
        return f"removed; if you had changed it, `git show HEAD:./{old}` still has that"
    base = rendered.read_bytes()
    if mine == base:
        return None
    if not Path(new).is_file():
        return put_back(old, "the template has it no longer, but you had changed it. Delete it if nothing needs it")
    if git("cat-file", "-e", f"HEAD:./{new}") is not None:
        return put_back(old, f"the template now calls it {new}, which you already had. Move your changes by hand")
    if git("ls-files", "--unmerged", "--", new):
        return None  # marked by an earlier run
    theirs = Path(new).read_bytes()
    merged, conflicts = merge(mine, base, theirs)
    if merged is None:
        return put_back(old, f"the template now calls it {new}, and git cannot merge it. Move your changes by hand")
    Path(new).write_bytes(merged)
    if conflicts:
        mark_unmerged(new, base, mine, theirs)
        return f"now {new}, CONFLICTS with your changes. Mend the marked lines, then git add"
    return f"now {new}, with your changes"


def put_back(path: str, reason: str) -> str:
    """Write the user's file as it was."""
    git("checkout-index", "--", path)
    return f"kept: {reason}"


def merge(mine: bytes, base: bytes, theirs: bytes) -> tuple[bytes | None, bool]:
    """Merge three ways; return the text and whether it has conflict markers, or no text if git cannot (binary files)."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("mine", "base", "theirs")]
        for path, content in zip(paths, (mine, base, theirs), strict=True):
            path.write_bytes(content)
        labels = ("-L", "before updating", "-L", "last update", "-L", "after updating")  # as Copier labels its own
        done = run("merge-file", "--stdout", *labels, *map(str, paths))
    # The status is the number of conflicts, 127 at most; above that, or below 0, it failed.
    return (done.stdout, done.returncode > 0) if 0 <= done.returncode <= 127 else (None, False)


def mark_unmerged(path: str, base: bytes, mine: bytes, theirs: bytes) -> None:
    """Record the conflict in the index, so that `git status` shows it and `git commit` refuses."""
    prefix = (git("rev-parse", "--show-prefix") or b"").strip()  # a project may be a folder of a larger repository
    entries = b""
    for stage, content in enumerate((base, mine, theirs), start=1):
        blob = git("hash-object", "-w", "--stdin", stdin=content) or b""
        entries += b"100644 %s %d\t%s\0" % (blob.strip(), stage, prefix + path.encode())
    git("update-index", "-z", "--index-info", stdin=entries)


def git(*arguments: str, folder: Path | None = None, stdin: bytes = b"") -> bytes | None:
    """Return what git prints, or None if it fails."""
    done = run(*arguments, folder=folder, stdin=stdin)
    return done.stdout if done.returncode == 0 else None


def run(*arguments: str, folder: Path | None = None, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", *arguments], cwd=folder, input=stdin, capture_output=True, check=False)  # noqa: S603, S607


if __name__ == "__main__":
    main(*sys.argv[1:])

"""After an update, carry along what a user had changed in managed files that are gone or have a new name.

Copier by itself deletes such a file, edits and all, writes the new one without them, and exits 0. This runs after every
update, from `_migrations` in copier.yml. A version that deletes a file needs to say nothing; so does one that renders it
no longer for some answers. A version that renames a file adds a line to the command there, which then stays:

    - src/*/health.py=src/*/status.py

`*` is the package's folder. Old names stay on the left; if the file moves again, the right side of each line that leads
to it changes to its newest name, because updates skip versions.

Files whose bytes are in the template's repository are merged three ways: from the file as the user's version of the
template had it, to the user's, and to the new one. A file with the suffix .jinja was rendered, so nobody can tell here
what the user changed: it gets a line that says how to look. What the user had not changed, or had deleted or renamed, is
left alone. Running it again changes nothing.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

TEMPLATE = Path(__file__).resolve().parent.parent  # Copier's clone of the new version, with the history of the old


def main(package: str, *renamed: str) -> None:
    """Keep edits to the files that Copier removed, and say so on stderr, a line for each."""
    renames = dict(rename.split("=") for rename in renamed)
    # Copier starts on a clean tree only, so what is missing now is what it removed.
    for old in (git("ls-files", "--deleted", "-z") or b"").decode().split("\0")[:-1]:
        general = re.sub("^src/[^/]+/", "src/*/", old)
        new = renames.get(general, general).replace("*", package)
        origin = f"{os.environ['VERSION_FROM']}:template/{general.replace('*', '{{ package_name }}')}"
        done = keep(origin, old, new)
        if done:
            print(f"{old}: {done}", file=sys.stderr)


def keep(origin: str, old: str, new: str) -> str | None:
    """Keep the edits to `old`, which was the blob `origin` of the template; return what to tell the user."""
    base = git("cat-file", "blob", origin, folder=TEMPLATE)
    mine = git("cat-file", "blob", f"HEAD:./{old}")
    if base is None or mine is None:
        return f"removed; if you had changed it, `git show HEAD:./{old}` still has that"
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

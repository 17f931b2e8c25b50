"""Before an update, let git's index hold managed files with lines that end in LF, as the template has them.

Copier compares what is in the index. A file that was committed with CRLF, as editors on Windows save it, differs from
the template's in every line, so that a change of a single one would conflict as a whole. `.gitattributes` keeps CRLF out
of the index from now on; this is for what came in before. The user's own files and the working tree are left alone.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

TEMPLATE = Path(__file__).resolve().parent.parent  # Copier's clone of the new version, with the history of the old


def main() -> None:
    managed = [path for path in with_crlf() if is_managed(path)]
    if managed:
        # This setting decides as `* text=auto` does: what looks binary stays as it is.
        git("-c", "core.autocrlf=input", "add", "--renormalize", "--", *managed)


def with_crlf() -> list[str]:
    """The files whose lines end in CRLF in the index, all or some."""
    entries = git("ls-files", "--eol", "-z").split("\0")
    return [entry.partition("\t")[2] for entry in entries if re.match(r"i/(crlf|mixed)\s", entry)]


def is_managed(path: str) -> bool:
    """Whether the user's version of the template has this file, and it is not one of the user's own."""
    if re.match(r"(src/[^/]+|tests)/tools/", path):
        return False
    name = re.sub("^src/[^/]+/", "src/{{ package_name }}/", path)
    origin = f"{os.environ['VERSION_FROM']}:template/{name}"
    return any(has(origin + suffix) for suffix in ("", ".jinja"))


def has(blob: str) -> bool:
    return run("cat-file", "-e", blob, folder=TEMPLATE).returncode == 0


def git(*arguments: str) -> str:
    done = run(*arguments)
    done.check_returncode()
    return done.stdout


def run(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = ["git", *arguments]
    names = "surrogateescape"  # whatever bytes they are made of
    return subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", errors=names, check=False)  # noqa: S603


if __name__ == "__main__":
    main()

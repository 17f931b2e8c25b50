"""Keeps, reads and deletes a credential in a real Secret Service, as a server that a client started would.

A script of its own, since it needs dbus-daemon and gnome-keyring-daemon. The session bus listens where a desktop puts it,
/run/user/UID/bus, and the server is not told its address: MCP clients do not pass it on either.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pexpect
from conftest import copy_template, working_tree

NAME, VALUE = "WEATHER_API_KEY", "sentinel-in-the-keyring"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, "home")
        home.mkdir()
        os.environ["HOME"] = str(home)
        (home / ".gitconfig").write_text("[user]\nname = Tester\nemail = tester@example.com\n")
        project = copy_template(working_tree(Path(folder, "template")), Path(folder, "weather-api"), {})
        runtime = Path(f"/run/user/{os.getuid()}")
        if (runtime / "bus").exists():
            sys.exit(f"{runtime}/bus exists: this would write into a real session's keyring")
        runtime.mkdir(parents=True, exist_ok=True)
        bus = f"unix:path={runtime}/bus"
        daemons = [subprocess.Popen(["dbus-daemon", "--session", "--nofork", f"--address={bus}"])]
        try:
            wait_for(runtime / "bus")
            daemons.append(start_keyring(bus, home))
            check(project, home)
        finally:
            for daemon in reversed(daemons):
                daemon.terminate()
                daemon.wait(timeout=10)
            (runtime / "bus").unlink(missing_ok=True)


def wait_for(path: Path) -> None:
    for _ in range(100):
        if path.exists():
            return
        time.sleep(0.05)
    sys.exit(f"{path} did not appear")


def start_keyring(bus: str, home: Path) -> subprocess.Popen[bytes]:
    """gnome-keyring with its login collection unlocked by a password, as a desktop session does at login."""
    daemon = subprocess.Popen(
        ["gnome-keyring-daemon", "--foreground", "--components=secrets", "--unlock"],
        env={**os.environ, "DBUS_SESSION_BUS_ADDRESS": bus, "HOME": str(home), "XDG_RUNTIME_DIR": str(home)},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert daemon.stdin is not None
    daemon.stdin.write(b"password")
    daemon.stdin.close()
    time.sleep(1.0)
    return daemon


def check(project: Path, home: Path) -> None:
    # The environment that the SDK's stdio client gives a server.
    env = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": str(project / "src")}

    def secrets(*arguments: str, stdin: str = "") -> str:
        done = subprocess.run(
            [sys.executable, "-m", "weather_api", "secrets", *arguments],
            env=env,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        assert VALUE not in said
        print(f"secrets {' '.join(arguments)}: {said.strip()}")
        return said

    assert f"{NAME}    missing" in secrets()
    assert "is in the OS keyring" in secrets("set", NAME, stdin=f"{VALUE}\n")
    assert f"{NAME}    OS keyring" in secrets()
    typed = pexpect.spawn(sys.executable, ["-m", "weather_api", "secrets", "set", NAME], env=env, encoding="utf-8")
    typed.expect_exact(f"{NAME} (not shown): ")
    typed.sendline(VALUE)
    typed.expect(pexpect.EOF)
    typed.close()
    assert typed.exitstatus == 0
    assert VALUE not in str(typed.before)  # not echoed
    read = subprocess.run(
        [sys.executable, "-c", f"from weather_api.credentials import require_auth; print(require_auth({NAME!r}))"],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert read.stdout.strip() == VALUE
    assert "is no longer" in secrets("delete", NAME)
    assert "was not" in secrets("delete", NAME)
    print("real keyring: kept, read without the bus's address in the environment, deleted")


if __name__ == "__main__":
    main()

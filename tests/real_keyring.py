"""Keeps, reads and deletes a credential in a real Secret Service, and the key of a sign-in, as servers do.

A script of its own, since it needs dbus-daemon and gnome-keyring-daemon. The session bus listens where a desktop puts it,
/run/user/UID/bus, and the server is not told its address: MCP clients do not pass it on either.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from base64 import b64decode
from pathlib import Path

import pexpect
import secretstorage
from conftest import copy_template, working_tree
from test_sign_in import Server, fake_api, fake_provider

NAME, VALUE = "WEATHER_API_KEY", "sentinel-in-the-keyring"
KEYRING_ONLY = {"TOKEN_KEY": "", "MCP_KEYRING": "", "MCP_DATA_DIR": ""}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, "home")
        home.mkdir()
        os.environ["HOME"] = str(home)
        (home / ".gitconfig").write_text("[user]\nname = Tester\nemail = tester@example.com\n")
        template = working_tree(Path(folder, "template"))
        project = copy_template(template, Path(folder, "weather-api"), {})
        signing_in = copy_template(template, Path(folder, "signing-in", "weather-api"), {"oauth_provider": "github"})
        runtime = Path(f"/run/user/{os.getuid()}")
        if (runtime / "bus").exists():
            sys.exit(f"{runtime}/bus exists: this would write into a real session's keyring")
        runtime.mkdir(parents=True, exist_ok=True)
        bus = f"unix:path={runtime}/bus"
        command = ["dbus-daemon", "--session", "--nofork", f"--address={bus}"]
        daemons = [subprocess.Popen(command, stderr=subprocess.DEVNULL)]  # it complains that no window can be opened
        try:
            wait_for(runtime / "bus")
            daemons.append(start_keyring(bus, home))
            check(project, home)
            check_sign_in(signing_in, home, bus)
            stop(daemons)
            check_login_stops(Server(signing_in, home, **KEYRING_ONLY), "no keyring")
        finally:
            stop(daemons)
            (runtime / "bus").unlink(missing_ok=True)


def stop(daemons: list[subprocess.Popen[bytes]]) -> None:
    while daemons:
        daemons[-1].terminate()
        daemons.pop().wait(timeout=10)


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
    try:
        typed.expect_exact(f"{NAME} (not shown): ")
        typed.sendline(VALUE)
        typed.expect(pexpect.EOF)
    finally:
        typed.close(force=True)
    assert typed.exitstatus == 0
    assert VALUE not in str(typed.before)  # not echoed
    read = subprocess.run(
        [sys.executable, "-c", f"from weather_api.credentials import require_auth; print(require_auth({NAME!r}))"],
        env=env,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert read.stdout.strip() == VALUE
    assert "is no longer" in secrets("delete", NAME)
    assert "was not" in secrets("delete", NAME)
    print("real keyring: kept, read without the bus's address in the environment, deleted")


def check_sign_in(project: Path, home: Path, bus: str) -> None:
    def kept_key() -> str:  # asked of the keyring by another program than the server
        env = {**os.environ, "DBUS_SESSION_BUS_ADDRESS": bus}
        ask = [sys.executable, "-m", "keyring", "get", "weather-api", "TOKEN_KEY"]
        return subprocess.run(ask, env=env, capture_output=True, text=True, check=False, timeout=60).stdout.strip()

    with fake_provider.running(style="github", expires_in=1) as fake, fake_api.FakeApi() as api:
        server = Server(project, home, OAUTH_BASE_URL=fake.base, API_BASE_URL=api.url, **KEYRING_ONLY)
        assert kept_key() == ""
        code, said = server.login()
        assert code == 0, said
        key = kept_key()
        assert len(b64decode(key, validate=True)) == 32
        status = server.run("status")
        assert (status.returncode, "key: TOKEN_KEY from OS keyring" in status.stdout) == (0, True), status
        code, said = server.login()
        assert (code, kept_key()) == (0, key), said
        time.sleep(1.1)
        fetched = server.call("fetch", {"path": "/items/1"})
        assert not fetched.is_error, fetched.content
        assert api.requests[-1][1]["authorization"].removeprefix("Bearer ") in fake.access
        assert fake.refreshes == 1
        files = [path for path in home.rglob("*") if path.is_file()]
        assert [path for path in files if path.parent.name == "sign-in" and path.suffix == ".json"]
        for path in files:
            assert not [it for it in (key, *fake.secret_values) if it.encode() in path.read_bytes()], path
        print(
            "sign-in: one key, made by login, kept in the keyring; another process renewed with it; no file shows a value"
        )

        os.environ["DBUS_SESSION_BUS_ADDRESS"] = bus
        secretstorage.get_default_collection(secretstorage.dbus_init()).lock()
        seen = list(fake.requests)
        check_login_stops(server, "a locked keyring")
        status = server.run("status")
        assert (status.returncode, "no_token_key" in status.stdout) == (1, True), status
        assert fake.requests == seen


def check_login_stops(server: Server, why: str) -> None:
    """Before a browser opens, within seconds, and with the three ways on."""
    began = time.monotonic()
    code, said = server.login()
    assert (code, said.count("\n"), "http" in said) == (2, 1, False), said
    for way in ("set TOKEN_KEY", "set ACCESS_TOKEN", "--insecure-plaintext-storage"):
        assert way in said
    assert time.monotonic() - began < 10
    print(f"login with {why}: {said.strip()}")


if __name__ == "__main__":
    main()

"""Signs in with a real browser, from the rendered server's own `login` to the page that the person lands on.

A script of its own, since it needs Chromium. `login` opens it through `$BROWSER`, which is this script again: it starts
Chromium without a window, clicks on the provider's consent page as a person would, and writes down what the browser then
shows. With a folder as argument, the pictures are kept there.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from base64 import b64decode
from pathlib import Path
from typing import Any

from conftest import copy_template, working_tree
from test_sign_in import Server, fake_provider

FLAGS = """
    --headless --remote-debugging-pipe --no-first-run --disable-gpu --disable-dev-shm-usage --disable-extensions
    --disable-background-networking --disable-component-update --disable-sync --window-size=900,600 about:blank
""".split()
SCHEMES = ("light", "dark")
SHOWN = """JSON.stringify({
    title: document.title, heading: document.querySelector('h1').textContent, text: document.body.innerText,
    ground: getComputedStyle(document.body).backgroundColor, ink: getComputedStyle(document.body).color,
    refused: window.refused,
})"""
# What the programs of other days left behind: 80 KB, sent to the callback only.
COOKIES = "for (let n = 0; n < 20; n++) document.cookie = `left${n}=${'x'.repeat(4000)}; path=/callback`"
PLACE = """(() => {
    const box = [...document.links].find(link => link.text === '%s').getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
})()"""


class Chromium:
    """One page of a browser of its own, spoken to over the DevTools protocol: JSON over a pipe, each ended by a zero byte."""

    def __init__(self, profile: Path, *flags: str) -> None:
        (theirs, self._out), (self._in, ours) = os.pipe(), os.pipe()

        def hand_over() -> None:  # the browser reads from descriptor 3 and writes to 4
            low, high = os.dup(theirs), os.dup(ours)
            os.dup2(low, 3)
            os.dup2(high, 4)

        sandbox = [] if os.geteuid() else ["--no-sandbox"]  # root has none
        self._process = subprocess.Popen(
            ["chromium", *FLAGS, *flags, *sandbox, f"--user-data-dir={profile}"],
            env={**os.environ, "HOME": str(profile)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(3, 4),
            preexec_fn=hand_over,
        )
        os.close(theirs)
        os.close(ours)
        self._rest = b""
        self._number = 0
        self._session: dict[str, str] = {}
        self.events: list[dict[str, Any]] = []
        target = next(it for it in self.ask("Target.getTargets")["targetInfos"] if it["type"] == "page")
        answer = self.ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = {"sessionId": answer["sessionId"]}

    def ask(self, method: str, **params: Any) -> Any:
        """Send a command and return its result; what else the browser tells is kept in `events`."""
        self._number += 1
        request = {"id": self._number, "method": method, "params": params, **self._session}
        os.write(self._out, json.dumps(request).encode() + b"\0")
        while True:
            while b"\0" not in self._rest:
                self._rest += os.read(self._in, 1 << 20) or sys.exit("the browser ended")
            message, _, self._rest = self._rest.partition(b"\0")
            answer = json.loads(message)
            if answer.get("id") == self._number:
                return answer.get("result", {})  # none where the page went away in the middle of a question
            self.events.append(answer)

    def evaluate(self, expression: str) -> Any:
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True).get("result", {}).get("value")

    def wait_for(self, condition: str) -> None:
        for _ in range(200):
            if self.evaluate(f"document.readyState === 'complete' && ({condition})"):
                return
            time.sleep(0.05)
        sys.exit(f"never came true in the browser: {condition}")

    def click(self, text: str) -> None:
        """Press and release the mouse where the link with this text is."""
        x, y = self.evaluate(PLACE % text)
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def close(self) -> None:
        try:
            self.ask("Browser.close")
            self._process.wait(timeout=10)
        finally:
            self._process.kill()


def browse(url: str, folder: Path, answer: str, cookies: bool) -> None:
    """Be the person: open the address, click on `answer`, look at the page that follows.

    With `cookies` in the way the page says so: then clear them, and load it again.
    """
    browser = Chromium(folder / "profile")
    try:
        look(browser, url, folder, answer, cookies)
    finally:
        browser.close()


def look(browser: Chromium, url: str, folder: Path, answer: str, cookies: bool) -> None:
    for domain in ("Page", "Network", "Log"):
        browser.ask(f"{domain}.enable")
    listen = (
        "window.refused = []; addEventListener('securitypolicyviolation', it => refused.push(it.violatedDirective))"
    )
    browser.ask("Page.addScriptToEvaluateOnNewDocument", source=listen)
    browser.ask("Page.navigate", url=url)
    browser.wait_for("document.links.length")
    if cookies:
        browser.evaluate(COOKIES)
    browser.click(answer)
    browser.wait_for("location.pathname === '/callback'")
    shown = {}
    for scheme in SCHEMES:
        browser.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        shown[scheme] = json.loads(browser.evaluate(SHOWN))
        (folder / f"{scheme}.png").write_bytes(b64decode(browser.ask("Page.captureScreenshot")["data"]))
    if cookies:
        browser.ask("Network.clearBrowserCookies")
        browser.ask("Page.reload")
        browser.wait_for("document.title === 'Sign-in received'")
    requested = [it["params"]["request"]["url"] for it in browser.events if it["method"] == "Network.requestWillBeSent"]
    logged = [it["params"]["entry"]["text"] for it in browser.events if it["method"] == "Log.entryAdded"]
    (folder / "seen.json").write_text(json.dumps({"shown": shown, "requested": requested, "logged": logged}))


class Checks:
    def __init__(self) -> None:
        self.passed = self.failed = 0

    def __call__(self, what: str, good: bool, detail: object = "") -> None:
        self.passed, self.failed = self.passed + good, self.failed + (not good)
        print(f"{'ok' if good else 'FAILED'}: {what}{'' if good else f': {detail}'}", flush=True)


def sign_in(
    server: Server, folder: Path, answer: str, *more: str
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """Run `login` with a person at the browser who clicks on `answer`."""
    folder.mkdir(parents=True)
    server.env["BROWSER"] = shlex.join([sys.executable, __file__, "--open", str(folder), answer, *more]) + " %s"
    done = server.run("login")  # returns when the browser, which shares its output, has ended as well
    if not (folder / "seen.json").exists():
        sys.exit(f"the browser saw nothing: {done.stderr}")
    return done, json.loads((folder / "seen.json").read_text())


def luminance(colour: str) -> float:
    """From 0 to 1 (WCAG 2.2, relative luminance). 0.5, which fits no scheme, for what is not opaque: no style at all."""
    if not (found := re.fullmatch(r"rgb\((\d+), (\d+), (\d+)\)", colour)):
        return 0.5
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (int(n) / 255 for n in found.groups())
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def check_page(
    check: Checks, seen: dict[str, Any], origin: str, title: str, says: str = "Go back to the terminal"
) -> None:
    for scheme in SCHEMES:
        shown = seen["shown"][scheme]
        ground, ink = luminance(shown["ground"]), luminance(shown["ink"])
        contrast = (max(ground, ink) + 0.05) / (min(ground, ink) + 0.05)
        check(f"{scheme}: the page is titled {title!r}", shown["title"] == shown["heading"] == title, shown)
        check(f"{scheme}: it says where to go on", says in shown["text"], shown)
        check(f"{scheme}: its ground is {scheme}", ground > 0.8 if scheme == "light" else ground < 0.1, shown)
        check(f"{scheme}: it reads well (contrast of 7 or more)", contrast >= 7, contrast)
        check(f"{scheme}: the content security policy stopped nothing", shown["refused"] == [], shown)
    back = next((url for url in seen["requested"] if "/callback?" in url), "").partition("/callback?")[0]
    check("the redirect went to loopback", back.startswith("http://127.0.0.1:"), seen["requested"])
    elsewhere = [url for url in seen["requested"] if not url.startswith((f"{origin}/", f"{back}/callback?"))]
    check("nothing else was asked for", elsewhere == [], elsewhere)
    expected = [] if says.startswith("Go") else [line for line in seen["logged"] if "status of 431" in line]
    check("the browser complained of nothing else", seen["logged"] == expected, seen["logged"])


def prove(work: Path, pictures: Path) -> int:
    check = Checks()
    home = work / "home"
    home.mkdir()
    os.environ["HOME"] = str(home)
    (home / ".gitconfig").write_text("[user]\nname = Tester\nemail = tester@example.com\n")
    answers = {"oauth_provider": "github"}
    project = copy_template(working_tree(work / "template"), work / "weather-api", answers)
    with fake_provider.running(style="github", consent=True) as fake:
        server = Server(project, home, OAUTH_BASE_URL=fake.base)
        done, seen = sign_in(server, pictures / "declined", "Cancel")
        check(
            "declined: login exits with 1 and says why", done.returncode == 1 and "access_denied" in done.stderr, done
        )
        check_page(check, seen, fake.base, "Sign-in not completed")
        status = server.run("status")
        check("declined: nobody is signed in", status.returncode == 1 and not fake.posts, status)
        done, seen = sign_in(server, pictures / "authorized", "Authorize")
        check("login exits with 0", done.returncode == 0 and "Signed in to GitHub as ada." in done.stderr, done)
        check_page(check, seen, fake.base, "Sign-in received")
        status = server.run("status")
        check("somebody is signed in", status.returncode == 0 and "signed in:   yes" in status.stdout, status)
        done, seen = sign_in(server, pictures / "cookies", "Authorize", "cookies")
        check("after 80 KB of cookies, cleared, login exits with 0", done.returncode == 0, done)
        check_page(check, seen, fake.base, "Too many cookies", "clear this site's cookies")
    print(f"{check.passed} passed, {check.failed} failed")
    return 1 if check.failed else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--open"]:
        browse(sys.argv[-1], Path(sys.argv[2]), sys.argv[3], cookies="cookies" in sys.argv[4:-1])
    else:
        with tempfile.TemporaryDirectory() as folder:
            sys.exit(prove(Path(folder), Path(sys.argv[1] if sys.argv[1:] else folder, "pictures")))

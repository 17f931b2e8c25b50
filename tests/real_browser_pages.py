"""Calls a tool from web pages in a real browser: one of `MCP_ALLOWED_ORIGINS` may, another may not.

A script of its own, since it needs Chromium. The pages come from 127.0.0.1 as well, under names that Chromium is told to
find there. What ran is asked of the API behind the tool, not of the page.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from conftest import copy_template, working_tree
from real_browser import Checks, Chromium
from test_sign_in import fake_api

TOKEN = "a-bearer-token-of-a-web-page"

# What a page does. Each answers a text: what it could read, or that it could read nothing.
CALLS = """
const headers = {'Content-Type': 'application/json', 'Accept': 'application/json, text/event-stream'};
const post = (url, token, body, more = {}) => fetch(url + '/mcp', {method: 'POST', body: JSON.stringify(body),
    headers: {...headers, ...(token ? {Authorization: 'Bearer ' + token} : {}), ...more}});
const call = path => ({jsonrpc: '2.0', id: 2, method: 'tools/call', params: {name: 'fetch', arguments: {path}}});

async function modern(url, token, path) {
    const body = call(path);
    body.params._meta = {'io.modelcontextprotocol/protocolVersion': '2026-07-28',
        'io.modelcontextprotocol/clientCapabilities': {},
        'io.modelcontextprotocol/clientInfo': {name: 'page', version: '1'}};
    const answer = await post(url, token, body,
        {'Mcp-Protocol-Version': '2026-07-28', 'Mcp-Method': 'tools/call', 'Mcp-Name': 'fetch'});
    return answer.status + ' ' + (answer.headers.get('WWW-Authenticate') || '') + await answer.text();
}

async function session(url, token, path) {
    const opened = await post(url, token, {jsonrpc: '2.0', id: 1, method: 'initialize', params: {
        protocolVersion: '2025-11-25', capabilities: {}, clientInfo: {name: 'page', version: '1'}}});
    await opened.text();
    const more = {'Mcp-Session-Id': opened.headers.get('Mcp-Session-Id'), 'Mcp-Protocol-Version': '2025-11-25'};
    await post(url, token, {jsonrpc: '2.0', method: 'notifications/initialized'}, more);
    const answer = await post(url, token, call(path), more);
    const text = await answer.text();
    const ended = await fetch(url + '/mcp', {method: 'DELETE', headers: {Authorization: 'Bearer ' + token, ...more}});
    return answer.status + ' ' + ended.status + ' ' + text;
}

async function blindly(url, token, path) {
    const answer = await fetch(url + '/mcp', {method: 'POST', mode: 'no-cors', body: JSON.stringify(call(path))});
    return answer.type + await answer.text();
}

const attempt = (what, ...rest) => what(...rest).catch(error => 'nothing: ' + error.name);
"""


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = f"<!doctype html><title>page</title><script>{CALLS}</script>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def pages() -> Iterator[int]:
    """Serves the page, whatever name it is asked for by, and gives the port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@contextmanager
def serving(project: Path, home: Path, **env: str) -> Iterator[str]:
    """The rendered server over HTTP; gives its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "weather_api", "serve", "--http", "--port", "0"],
        env={"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(project / "src"), **env},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    try:
        said = ""
        for line in process.stderr:
            said += line
            if found := re.search(r"Serving (http://\S+)/mcp", line):
                threading.Thread(target=process.stderr.read, daemon=True).start()
                yield found[1]
                return
        sys.exit(f"the server did not start: {said}")
    finally:
        process.terminate()
        process.wait(timeout=15)


def ask(browser: Chromium, what: str, *arguments: str) -> str:
    """What the page says when it does `what`."""
    expression = f"attempt({what}, {', '.join(json.dumps(it) for it in arguments)})"
    answer = browser.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
    return str(answer["result"].get("value", answer))


def prove(work: Path) -> int:
    check = Checks()
    home = work / "home"
    home.mkdir()
    os.environ["HOME"] = str(home)
    (home / ".gitconfig").write_text("[user]\nname = Tester\nemail = tester@example.com\n")
    project = copy_template(working_tree(work / "template"), work / "weather-api", {"auth_keys": "WEATHER_API_KEY"})
    with fake_api.FakeApi() as api, pages() as port:
        ours, theirs = f"http://app.example.com:{port}", f"http://other.example.com:{port}"
        local = f"http://127.0.0.1:{port}"
        env = {
            "API_BASE_URL": api.url,
            "WEATHER_API_KEY": "made-up",
            "MCP_KEYRING": "off",
            "MCP_BEARER_TOKENS": TOKEN,
            "MCP_ALLOWED_ORIGINS": ours,
        }

        def ran(path: str) -> int:
            return sum(asked == f"/v1{path}" for asked, _ in api.requests)

        with serving(project, home, **env) as url:
            browser = Chromium(work / "profile", f"--host-resolver-rules=MAP *.example.com 127.0.0.1:{port}")
            browser.ask("Page.enable")
            for origin in (ours, theirs, local):
                browser.ask("Page.navigate", url=origin)
                browser.wait_for(f"location.origin === '{origin}' && typeof attempt === 'function'")
                for what in ("modern", "session"):
                    path = f"/{what}/{origin.rpartition('/')[2].partition(':')[0]}"
                    shown = ask(browser, what, url, TOKEN, path)
                    if origin == ours:
                        good = shown.startswith("200 ") and path in shown and ran(path) == 1
                        check(f"{what}: a page of an allowed origin calls a tool and reads its answer", good, shown)
                    else:
                        good = shown == "nothing: TypeError" and ran(path) == 0
                        check(f"{what}: a page of {origin} can not", good, (shown, ran(path)))
                path = "/blindly"
                shown = ask(browser, "blindly", url, TOKEN, path)
                check(
                    f"blindly from {origin}: nothing to read, and nothing ran",
                    (shown, ran(path)) == ("opaque", 0),
                    shown,
                )
                shown = ask(browser, "modern", url, "x" * len(TOKEN), "/wrong")
                expected = "401 Bearer realm=" if origin == ours else "nothing: TypeError"
                check(
                    f"a wrong token from {origin}: {expected}", shown.startswith(expected) and ran("/wrong") == 0, shown
                )
            browser.close()
    print(f"{check.passed} passed, {check.failed} failed")
    return 1 if check.failed else 0


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(prove(Path(folder)))

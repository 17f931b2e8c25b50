"""The command line. Each command imports what it needs when it runs, so that a health probe costs no SDK import."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from . import logs, version
from .answers import COMMAND, DESCRIPTION, SERVER_NAME
from .credentials import SOURCES
from .errors import ServerError, UsageError
from .settings import Settings, port_number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 1 for what failed at run time, 2 for usage and configuration."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except ServerError as error:
        print(f"{COMMAND}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=COMMAND,
        description=f"{SERVER_NAME}: {DESCRIPTION}. Without a command it serves an MCP client on stdin and stdout.",
    )
    parser.add_argument("--version", action="version", version=f"{COMMAND} {version()}")
    parser.set_defaults(run=_serve, http=False, host=None, port=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    serve = commands.add_parser("serve", help="serve MCP clients, on stdin and stdout or with --http")
    serve.add_argument("--http", action="store_true", help="streamable HTTP at /mcp instead of stdin and stdout")
    serve.add_argument("--host", help="address to bind (MCP_HOST, default 127.0.0.1)")
    serve.add_argument("--port", type=_port, help="port to bind, 0 for a free one (MCP_PORT, default 8000)")

    health = commands.add_parser("health", help="ask a server over HTTP whether it can serve; exit 0 or 1")
    health.add_argument("--url", help="the server's address (default: this machine, at MCP_PORT)")
    health.add_argument("--alive", action="store_true", help="only whether it answers, not whether it is ready")
    health.set_defaults(run=_health)

    secrets = commands.add_parser("secrets", help="list the credentials, or keep one in the OS keyring")
    secrets.set_defaults(run=_secrets, action="list", name=None)
    actions = secrets.add_subparsers(metavar="ACTION")
    for action, text in (("set", "ask for a value and keep it"), ("delete", "remove it")):
        sub = actions.add_parser(action, help=f"{text} in the OS keyring")
        sub.add_argument("name", metavar="NAME")
        sub.set_defaults(action=action)

    config = commands.add_parser("config", help="print what to paste into an MCP client's configuration")
    config.add_argument("client", choices=("claude-desktop", "claude-code", "cursor", "vscode"))
    config.set_defaults(run=_config)
    return parser


def _port(text: str) -> int:
    try:
        return port_number(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}") from None


def _serve(options: argparse.Namespace) -> int:
    if not options.http and (options.host is not None or options.port is not None):
        raise UsageError(f"--host and --port are for HTTP. Run: {COMMAND} serve --http")
    settings = Settings.load(SOURCES).with_bind(options.host, options.port)
    logs.configure(settings.log_level)
    from . import server

    if options.http:
        server.run_http(settings, SOURCES)
    else:
        server.run_stdio()
    return 0


def _health(options: argparse.Namespace) -> int:
    from .commands import health

    return health.check(options.url or health.own_url(Settings.load(SOURCES)), alive_only=options.alive)


def _secrets(options: argparse.Namespace) -> int:
    from .commands import secrets

    if options.action == "set":
        return secrets.store(options.name)
    if options.action == "delete":
        return secrets.delete(options.name)
    return secrets.show()


def _config(options: argparse.Namespace) -> int:
    from .commands import config

    return config.show(options.client)

"""The command line of a server that has the package, as small as it gets. SIGN_IN_* sets it up."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from pathlib import Path

from .package import AuthSettings, ServerError, add_commands


def main() -> int:
    if os.environ.get("SIGN_IN_DEBUG"):
        logging.basicConfig(level=logging.DEBUG)
    settings = AuthSettings(
        app_name="sign-in-test",
        command="demo",
        provider=os.environ["SIGN_IN_PROVIDER"],
        lookup=os.environ.get,
        options=json.loads(os.environ["SIGN_IN_OPTIONS"]),
        data_dir=Path(os.environ["SIGN_IN_DATA"]),
    )
    parser = argparse.ArgumentParser("demo")
    subparsers = parser.add_subparsers(required=True)
    add_commands(subparsers, lambda: settings)
    show = subparsers.add_parser("token-works")
    show.set_defaults(run=lambda args: 0 if settings.manager().get_token_blocking() else 1)
    args = parser.parse_args()
    try:
        return int(args.run(args))
    except ServerError as error:
        if os.environ.get("SIGN_IN_DEBUG"):
            logging.exception("failed")
        print(error, file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())

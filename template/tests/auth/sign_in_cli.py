"""This server's command line, with the answers of SIGN_IN_* in place of its own: every provider is tested in each project.

`serve` has the tools of `probe_server`, and its API takes the sign-in.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys

from .package import ServerError, api_auth, cli, sign_in, signin


def main() -> int:
    options = json.loads(os.environ["SIGN_IN_OPTIONS"])
    vars(signin).update(OAUTH_PROVIDER=os.environ["SIGN_IN_PROVIDER"], OAUTH_OPTIONS=options)
    for module in (cli, sign_in, signin):
        vars(module)["COMMAND"] = "demo"
    if "serve" in sys.argv:
        import probe_server  # noqa: F401

        vars(api_auth)["API_AUTH"] = "oauth"
    if os.environ.get("SIGN_IN_DEBUG"):
        logging.basicConfig(level=logging.DEBUG)
    if sys.argv[1:] == ["token-works"]:
        try:
            return 0 if asyncio.run(signin.manager().get_token()) else 1
        except ServerError as error:
            logging.debug("failed", exc_info=True)
            print(error, file=sys.stderr)
            return error.exit_code
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())

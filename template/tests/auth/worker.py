"""One process of a crowd: waits for its start line on stdin, then asks for a token, and prints it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from .fake_provider import FakeProvider
from .package import AuthError, TokenManager
from .support import flow_for, store_at


async def main(base: str, path: str) -> None:
    manager = TokenManager(flow_for(FakeProvider(base=base)), store=store_at(Path(path)), command="demo")
    import cryptography.hazmat.primitives.ciphers.aead  # noqa: F401
    import filelock  # noqa: F401
    import httpx  # noqa: F401

    print("ready", flush=True)
    for line in sys.stdin:
        rejected = line.strip()
        try:
            print(await (manager.renew(rejected) if rejected else manager.get_token()), flush=True)
        except AuthError as error:
            print(f"error {error.code}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

"""A fake provider for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .fake_provider import FakeProvider, running
from .support import end_children


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """Over real HTTP on 127.0.0.1, and strict as a good one."""
    with running() as provider:
        yield provider


@pytest.fixture(autouse=True)
def _every_child_ends() -> Iterator[None]:
    yield
    end_children()

"""A fake provider for each test."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from .fake_provider import FakeProvider, running
from .package import logs, signin, token_manager
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


@pytest.fixture(autouse=True)
def _the_process_is_as_before() -> Iterator[None]:
    """Take back what a process has only one of. A test that comes later may be about a sign-in of its own."""
    hidden = dict(logs._hidden)
    forms = list(logs._longest_first)
    managers = set(token_manager._managers)
    root = logging.getLogger()
    handlers = list(root.handlers)
    level = root.level
    yield
    signin.manager.cache_clear()
    logs._hidden.clear()
    logs._hidden.update(hidden)
    logs._longest_first = forms
    for manager in set(token_manager._managers) - managers:
        token_manager._managers.discard(manager)  # else the end of the whole run waits for each
    for handler in set(root.handlers) - set(handlers):
        root.removeHandler(handler)  # it writes to this test's stderr
    root.setLevel(level)

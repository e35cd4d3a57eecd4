"""A console over a fresh shop, and people who are signed in to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from midas_pipelines.store.gateway.keys import Role
from midas_pipelines_tests.gateway.console.visitor import Visitor, visitor_of
from midas_pipelines_tests.sync.world import World


@pytest.fixture
def visitor(world: World) -> Iterator[Visitor]:
    """Nobody yet."""
    with visitor_of(world) as found:
        yield found


@pytest.fixture
def operator(visitor: Visitor) -> Visitor:
    """Signed in as an operator."""
    visitor.sign_in(Role.OPERATOR)
    return visitor


@pytest.fixture
def admin(visitor: Visitor) -> Visitor:
    """Signed in as an admin."""
    visitor.sign_in(Role.ADMIN)
    return visitor

"""The world of a sync, and a shop in it that writes to its customers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from midas_pipelines_tests.notify.smtp import Mailbox
from midas_pipelines_tests.shop import add_product
from midas_pipelines_tests.sync.conftest import background_sandbox, world  # noqa: F401 - fixtures
from midas_pipelines_tests.sync.world import World


@pytest.fixture
def box() -> Iterator[Mailbox]:
    """A mail server that takes everything, until it is told otherwise."""
    with Mailbox() as box:
        yield box


@pytest.fixture
def shop_with_mail(world: World, box: Mailbox) -> World:  # noqa: F811
    """A shop that writes to its customers, and has 10 of A."""
    world.changes |= {
        "smtp_url": box.url,
        "mail_from": "Midas <orders@shop.example>",
        "mail_shop_name": "Midas",
    }
    add_product(world.database, sku="A", stock_quantity=10, name="Screen")
    return world

"""What to do when 4Seller says that a product changed: nothing where it was our own push, else look and set it right.

The shop is the source: what somebody changed on 4Seller is noted as what it shows, and the item is pushed again.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa

from midas_pipelines.fourseller.client import FourSeller
from midas_pipelines.fourseller.errors import NotFound
from midas_pipelines.fourseller.models import Product
from midas_pipelines.store.claims import COLUMNS, FORGOTTEN, Mapping
from midas_pipelines.store.tables import mappings
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.engine import Engine
from midas_pipelines.sync.listing import content_hash
from midas_pipelines.sync.scan import as_seen


class Verdict(StrEnum):
    """What a reported product turned out to be."""

    STRANGER = "stranger"  # no item is tied to it
    ECHO = "echo"  # 4Seller shows what it confirmed to us
    BUSY = "busy"  # its item is being pushed; ask again when that is over
    DIFFERS = "differs"  # somebody changed it there; the item is dirty now
    GONE = "gone"  # it is no longer there; the item is dirty now


async def judge_product(
    engine: Engine, client: FourSeller, product_id: str, reported: Product | None
) -> Verdict:
    """Compares what was reported with what 4Seller last confirmed, and where they differ with what it shows now.

    A report may be late, so a difference alone proves nothing: 4Seller is asked before anything is believed.

    Args:
        engine: settings, database.
        client: an open client.
        product_id: 4Seller's.
        reported: the product as the event had it; None for one that was deleted.

    Raises:
        FourSellerError: it could not be asked.
    """
    mapping, read_at = await asyncio.to_thread(_find, engine, product_id)
    if mapping is None:
        return Verdict.STRANGER
    if _held(mapping):
        return Verdict.BUSY
    if reported is not None and as_seen(mapping[0], reported) is None:
        return Verdict.ECHO
    try:
        shown = await client.product(product_id)
    except NotFound:
        shown = None
    return await asyncio.to_thread(_believe, engine, product_id, shown, read_at)


Found = tuple[Mapping, bool]


def _find(engine: Engine, product_id: str) -> tuple[Found | None, datetime]:
    with engine.database.reading() as connection:
        now = connection.execute(sa.select(utc_now())).scalar_one()
        return _read(connection, product_id, lock=False), now


def _read(connection: sa.Connection, product_id: str, *, lock: bool) -> Found | None:
    held = sa.func.coalesce(mappings.c.claimed_until > utc_now(), sa.false()).label("held")
    query = sa.select(*COLUMNS, held).where(mappings.c.fourseller_product_id == product_id)
    row = connection.execute(query.with_for_update(skip_locked=True) if lock else query).first()
    return None if row is None else (Mapping(*row[:-1]), bool(row.held))


def _held(found: Found) -> bool:
    return found[1]


def _believe(engine: Engine, product_id: str, shown: Product | None, read_at: datetime) -> Verdict:
    """Takes what 4Seller shows for what it confirmed, unless the item was pushed since it was asked."""
    with engine.database.writing() as connection:
        found = _read(connection, product_id, lock=True)
        if found is None or _held(found):
            return Verdict.BUSY
        mapping = found[0]
        if mapping.acked_at is not None and mapping.acked_at >= read_at:
            return Verdict.BUSY
        seen = FORGOTTEN if shown is None else as_seen(mapping, shown)
        if seen is None:
            return Verdict.ECHO
        again = {
            "version": mappings.c.version + 1,
            "dirty_since": sa.func.coalesce(mappings.c.dirty_since, utc_now()),
        }
        connection.execute(
            sa.update(mappings)
            .where(mappings.c.id == mapping.id)
            .values({**seen, **again, **_observed(shown)})
        )
    return Verdict.GONE if shown is None else Verdict.DIFFERS


def _observed(shown: Product | None) -> dict[str, object]:
    quantity = shown.inventory.quantity if shown is not None and shown.inventory is not None else None
    return {
        "observed_hash": content_hash(shown) if shown is not None else None,
        "observed_quantity": quantity,
        "observed_at": utc_now(),
    }

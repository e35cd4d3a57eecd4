"""What may stay of an order whose buyer is erased: numbers, ids, known words."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from midas_pipelines.fourseller.status import read_status
from midas_pipelines.store.orders.payload_vault import ERASED_PAYLOAD, FORGOTTEN
from midas_pipelines.sync.orders.model.lines import items_named
from midas_pipelines.sync.orders.model.sale import Sale, some_parts

IMPERSONAL_PARTS = ("lines", "amounts")
"""The parts of an order whose digests stay; one of a name could be guessed."""
_NAMES = (
    "4seller 4sellers aliexpress allegro amazon bol bonanza cdiscount coupang ebay etsy faire fourseller fruugo google "
    "instagram jumia kaufland lazada magento mercadolibre meta facebook newegg onbuy otto ozon poshmark rakuten reverb "
    "shein shopee shopify temu tiktok walmart wayfair wish woocommerce zalando"
)
_BESIDE = (
    "shop shops store seller marketplace online business global direct fba fbm ae at au be br ca ch cn co com cz de dk es "
    "eu fi fr gb ie in it jp mx nl no nz pl pt se sg tr uk us usa canada europe"
)
MARKETPLACES, QUALIFIERS = set(_NAMES.split()), set(_BESIDE.split())
"""The names of marketplaces, and what may be beside them, as in `TikTok Shop US` or `amazon.co.uk`."""


def known_currency(text: str | None) -> str | None:
    """The currency if it has the form of ISO 4217."""
    return text if text and re.fullmatch("[A-Z]{3}", text) else None


def known_channel(text: str | None) -> str | None:
    """The sales channel if it is a marketplace's name, with or without its country."""
    words = set(re.findall(r"[a-z0-9]+", (text or "").lower()))
    return text if words & MARKETPLACES and words <= MARKETPLACES | QUALIFIERS else None


def known_status(word: str | None) -> str | None:
    """The status word if the table has it, `unknown` if it does not; None and an empty word stay."""
    known = not word or (read_status(word).known and not re.search(r"[^A-Za-z _-]", word))
    return word if known else "unknown"


def known_id(text: str | None) -> str | None:
    """The id or SKU if it looks like one: without blanks and no address."""
    return text if text and re.fullmatch(r"[^\s@]{1,170}", text) else None


def line_words(line: Any, of_shop: bool) -> dict[str, Any]:
    """What names a line, of a sale or in our table: its SKU if that is the shop's or looks like one, else its number."""
    sku = line.sku if of_shop else known_id(line.sku)
    product_id = known_id(line.fourseller_product_id)
    return {"sku": sku, "title": sku or f"Line {line.line}", "fourseller_product_id": product_id}


def without_personal_data(connection: sa.Connection, sale: Sale) -> Sale:
    """The sale as it is stored once its buyer is erased; a SKU of the shop stays, whatever it looks like."""
    ours = items_named(connection, [line.named for line in sale.lines])
    return replace(
        sale,
        sales_channel=known_channel(sale.sales_channel),
        currency=known_currency(sale.currency),
        status_word=known_status(sale.status_word) or "",
        buyer=FORGOTTEN,
        ship_to={},
        lines=tuple(replace(line, **line_words(line, line.named in ours)) for line in sale.lines),
        content=some_parts(sale.content, IMPERSONAL_PARTS),
        sealed=ERASED_PAYLOAD,
    )

"""Words of an order that say nothing of its buyer, and so may stay when the buyer is erased: currencies, marketplaces, statuses,
and ids. Pure."""

from __future__ import annotations

import re

from midas_pipelines.fourseller.status import read_status

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

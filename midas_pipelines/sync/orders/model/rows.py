"""Builds the rows of a sale, table by table, and knows the words that say nothing about its buyer. Pure.

These are kept when the buyer is erased, and shown outside the database; all else that a marketplace writes is free text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from midas_pipelines.fourseller.status import read_status
from midas_pipelines.store.orders.payload_vault import Vault
from midas_pipelines.storefront.types import to_cents
from midas_pipelines.sync.orders.model.lines import CHANNEL, SoldLine, explain_sale, sale_exceptions
from midas_pipelines.sync.orders.model.sale import Sale
from midas_pipelines.sync.orders.model.state_machine import payment_status

_CURRENCIES = (
    "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF "
    "CLP CNH CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL "
    "HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL "
    "MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON "
    "RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH "
    "UGX USD UYU UZS VES VND VUV WST XAF XCD XOF XPF YER ZAR ZMW ZWG"
)
CURRENCIES = frozenset(_CURRENCIES.split())
"""ISO 4217, with the offshore renminbi."""

_MARKETPLACES = (
    "4seller 4sellers aliexpress allegro amazon bol bonanza catch cdiscount coupang ebay etsy faire fnac fourseller fruugo "
    "gmarket google houzz instagram jumia kaufland kogan lazada magento mercado mercadolibre mercadolivre meta facebook "
    "michaels newegg onbuy otto ozon poshmark prestashop qoo10 rakuten reverb ricardo sears shein shopee shopify shopline "
    "squarespace target temu tiktok trademe walmart wayfair weebly wildberries wish wix woocommerce yahoo zalando"
)
MARKETPLACES = frozenset(_MARKETPLACES.split())
_QUALIFIERS = (
    "shop shops store seller sellers marketplace online business global direct fba fbm wfs sfp libre livre shopping express "
    "ae at au be br ca ch cl cn co com cz de dk eg es eu fi fr gb hk hu id ie il in it jp kr mx my net nl no nz pe ph pl pt "
    "ro sa se sg sk th tr tw uk us usa vn za canada europe"
)
QUALIFIERS = frozenset(_QUALIFIERS.split())
"""What may stand beside a marketplace's name, as in `TikTok Shop US` or `amazon.co.uk`."""

ID = re.compile(r"[^\s@]{1,170}")
OTHER_WORD = "unknown"
"""Stands for a status word that is not known."""


def known_currency(text: str | None) -> str | None:
    """The currency if it is one."""
    return text if text in CURRENCIES else None


def known_channel(text: str | None) -> str | None:
    """The sales channel if it is a marketplace's name, with or without its country."""
    words = re.findall(r"[a-z0-9]+", (text or "").lower())
    named = any(word in MARKETPLACES for word in words)
    return text if named and all(word in MARKETPLACES or word in QUALIFIERS for word in words) else None


def known_status(word: str | None) -> str | None:
    """The status word if the table has it, `unknown` if it does not; None and an empty word stay."""
    known = word is not None and read_status(word).known and not re.search(r"[^A-Za-z _-]", word)
    return word if known or not word else OTHER_WORD


def known_id(text: str | None) -> str | None:
    """The id or SKU if it looks like one: without blanks and no address."""
    return text if text and ID.fullmatch(text) else None


Row = dict[str, Any]


SAME_NAMES = (
    *("sales_channel", "status_word", "currency", "placed_at"),
    *("total", "lines_total", "shipping_cost", "tax", "discount"),
)
"""The columns of our row that a sale calls the same."""


def marketplace_order(sale: Sale, local_id: int, vault: Vault) -> Row:
    """Our row of an imported order."""
    return {name: getattr(sale, name) for name in SAME_NAMES} | {
        "channel": CHANNEL,
        "marketplace_order_id": sale.order_id,
        "local_order_id": local_id,
        "status": sale.status.value,
        "outcome": "imported",
        "payload": sale.sealed or vault.seal(sale.raw),
        "content_hash": sale.content.written(),
        "source_updated_at": sale.updated_at,
    }


def marketplace_line(line: SoldLine, order_row: int) -> Row:
    """Our row of a line."""
    product_id, variant_id = line.item or (None, None)
    return {
        "order_id": order_row,
        "line": line.number,
        "sku": line.line.sku,
        "fourseller_product_id": line.line.fourseller_product_id,
        "title": line.line.title,
        "quantity": line.line.quantity,
        "price": line.line.price,
        "order_item_id": line.order_item_id,
        "product_id": product_id,
        "variant_id": variant_id,
        "allocated": line.allocated,
        "backordered": line.backordered,
        "exception": line.exception,
    }


def shop_order(sale: Sale, local_id: int) -> Row:
    """The shop's row of the order; its amounts are in whole cents."""
    address = sale.address
    return {
        "id": local_id,
        "order_number": sale.order_number,
        "status": sale.shop_status,
        "total_amount": to_cents(sale.total),
        "shipping_address": address,
        "billing_address": address,
        "payment_method": payment_method(sale.sales_channel),
        "payment_status": payment_status(
            sale.status, paid=sale.paid and sale.total >= 0 and bool(sale.lines)
        ),
        "shipping_cost": to_cents(sale.shipping_cost),
        "notes": shop_notes(sale.order_id, sale.sales_channel, sale.currency),
        "created_at": sale.ordered_at,
        "updated_at": sale.updated_at or sale.ordered_at,
    }


def shop_item(line: SoldLine, local_id: int) -> Row:
    """The shop's row of a line."""
    product_id, variant_id = line.item or (None, None)
    return {
        "id": line.order_item_id,
        "order_id": local_id,
        "product_id": product_id,
        "variant_id": variant_id,
        "product_name": line.line.title,
        "quantity": line.line.quantity,
        "price": to_cents(line.line.price),
        "total_price": to_cents(line.line.total),
        "created_at": line.sale.ordered_at,
    }


def shop_history(sale: Sale, local_id: int) -> Row:
    """The shop's first entry in the order's status history."""
    notes = origin(sale.order_id, sale.sales_channel)
    return {"order_id": local_id, "status": sale.shop_status, "notes": notes}


def log_row(order_id: str, step: str, detail: str, run_id: str | None) -> Row:
    """One row of the order log."""
    return {
        "channel": CHANNEL,
        "marketplace_order_id": order_id,
        "step": step,
        "detail": detail,
        "run_id": run_id,
    }


def first_steps(sales: Sequence[Sale], lines: Sequence[SoldLine], run_id: str | None) -> list[Row]:
    """The order log of imported orders: what was imported and allocated, and what needs a person."""
    steps = []
    for sale in sales:
        placed = f"{sale.placed_at:%Y-%m-%d %H:%M} UTC" if sale.placed_at else "an unknown date"
        imported = (
            f"{sale.sales_channel or 'Marketplace'} order of {placed}, {sale.status_word or 'no status'}, "
            f"{len(sale.lines)} lines, {sale.priced}, as {sale.order_number}."
        )
        steps.append(log_row(sale.order_id, "imported", imported, run_id))
    taken: dict[str, list[str]] = {}
    remarks: list[Row] = []
    for line in lines:
        order_id = line.sale.order_id
        if line.allocated:
            named = f"{line.line.sku or line.line.title} (line {line.number})"
            taken.setdefault(order_id, []).append(f"{line.allocated} of {named}")
        if line.respelled and line.item is not None:
            remark = f"Line {line.number}: {line.line.sku} is another spelling of the SKU of product {line.item[0]}."
            remarks.append(log_row(order_id, "mapped", remark, run_id))
        for exception in line.exceptions:
            remarks.append(log_row(order_id, exception.value, line.explain(exception), run_id))
    for order_id, parts in taken.items():
        steps.append(log_row(order_id, "deducted", f"Took {', '.join(parts)} from stock.", run_id))
    steps += remarks
    for sale in sales:
        if sale.unreadable:
            steps.append(log_row(sale.order_id, "unreadable", unread(sale), run_id))
        for wrong in sale_exceptions(sale):
            steps.append(log_row(sale.order_id, wrong.value, explain_sale(sale, wrong), run_id))
    return steps


def payment_method(sales_channel: str | None) -> Row:
    """The payment method of the shop's order."""
    return {"type": "marketplace", "channel": sales_channel or CHANNEL}


def shop_notes(order_id: str, sales_channel: str | None, currency: str | None) -> str:
    """The notes of the shop's order: origin and currency, for which it has no columns."""
    return origin(order_id, sales_channel) + (f", paid in {currency}" if currency else "")


def origin(order_id: str, sales_channel: str | None) -> str:
    """The origin of the order, in words."""
    return f"{sales_channel or 'marketplace'} order {order_id} through 4Seller"


def unread(sale: Sale) -> str:
    """The fields of the order that could not be read, in one sentence."""
    return f"4Seller sent {', '.join(sale.unreadable)} in a form that cannot be read: counted as missing."


def preview(sale: Sale, exception: str | None) -> dict[str, str]:
    """The order as a row of a preview table, which Dagster and the sync log keep: no text of the buyer's."""
    return {
        "order": sale.order_id,
        "channel": known_channel(sale.sales_channel) or "",
        "total": f"{sale.total} {known_currency(sale.currency) or ''}".rstrip(),
        "lines": str(len(sale.lines)),
        "exception": (exception or "").replace(",", ", "),
    }

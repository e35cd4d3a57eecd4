"""The words of an order that say nothing about its buyer: kept when the buyer is erased, and shown outside the database.

Everything else that a marketplace writes is free text. Pure.
"""

from __future__ import annotations

import re

from midas_pipelines.fourseller.status import read_status

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

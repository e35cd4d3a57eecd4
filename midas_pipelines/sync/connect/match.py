"""Finds which listing is which item: by SKU, by the SKU's letters and digits, by barcode, by title. Pure."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

from rapidfuzz import fuzz, process

from midas_pipelines.fourseller.models import Product
from midas_pipelines.text import folded

LEAST_SCORE = 85.0  # of 100: how alike two titles must be to be proposed as one item

COMMON = 300  # A word that more listings have than this says little about any of them

ENOUGH = 50  # listings with rare words of a title among which its like is looked for

BARCODE = re.compile(r"\d{8}|\d{12,14}")
BARCODE_FIELDS = ("barcode", "upc", "ean", "gtin", "isbn")


@dataclass(frozen=True, slots=True)
class Sought:
    """An item of the shop that is looked for: its mapping, SKU and title."""

    mapping_id: int
    sku: str
    title: str


@dataclass(frozen=True, slots=True)
class Match:
    """An item and a listing that may be one; `how` is sku, spelling, barcode or title, `score` of 100."""

    item: Sought
    product: Product
    how: str
    score: float = 100.0


@dataclass(frozen=True)
class Matched:
    """The pairs, and what has none; `doubled` are listings that share their SKU with another one."""

    pairs: list[Match]
    only_here: list[Sought]
    only_there: list[Product]
    doubled: list[Product]


Way = tuple[str, Callable[[Sought], Hashable], Callable[[Product], Hashable]]  # its name, and the keys


def match_listings(items: Sequence[Sought], products: Sequence[Product]) -> Matched:
    """Pairs items and listings, the surest way first; one that several would fit is left for a person."""
    shown = Counter(product.sku for product in products if product.sku)
    here = {item.mapping_id: item for item in items}
    there = {product.id: product for product in products if shown[product.sku or ""] <= 1}
    ways: list[Way] = [
        ("sku", lambda item: item.sku, lambda product: product.sku),
        ("spelling", lambda item: _letters(item.sku), lambda product: _letters(product.sku)),
        ("barcode", lambda item: _barcode(item.sku), _shown_barcode),
        ("title", lambda item: _words(item.title), lambda product: _words(product.title or "") or None),
    ]
    pairs: list[Match] = []
    for way in (*ways, None):
        mine, theirs = list(here.values()), list(there.values())
        found = _by_title(mine, theirs) if way is None else _alike(mine, theirs, way)
        pairs += found
        for one in found:
            del here[one.item.mapping_id], there[one.product.id]
    doubled = [product for product in products if shown[product.sku or ""] > 1]
    return Matched(pairs, list(here.values()), list(there.values()), doubled)


def _letters(sku: str | None) -> str | None:
    return "".join(one for one in folded(sku or "") if one.isalnum()) or None


def _barcode(text: object) -> str | None:
    """A barcode in 14 digits; None for anything else."""
    digits = str(text or "").replace("-", "").replace(" ", "")
    return digits.zfill(14) if BARCODE.fullmatch(digits) else None


def _shown_barcode(product: Product) -> str | None:
    given = [product.sku, *((product.model_extra or {}).get(name) for name in BARCODE_FIELDS)]
    given += [(product.metadata or {}).get(name) for name in BARCODE_FIELDS]
    return next((code for one in given if (code := _barcode(one)) is not None), None)


def _alike(items: Iterable[Sought], products: Iterable[Product], way: Way) -> list[Match]:
    """The pairs with the same key, where no other item or listing has it."""
    how, of_item, of_product = way
    here: dict[Hashable, list[Sought]] = defaultdict(list)
    there: dict[Hashable, list[Product]] = defaultdict(list)
    for item in items:
        here[of_item(item)].append(item)
    for product in products:
        there[of_product(product)].append(product)
    return [
        Match(mine[0], there[key][0], how)
        for key, mine in here.items()
        if key is not None and len(mine) == 1 and len(there.get(key, ())) == 1
    ]


def _by_title(items: Sequence[Sought], products: Sequence[Product]) -> list[Match]:
    """The most alike first, each item and listing once; compared are only those that share a word that few have."""
    titles = [_words(product.title or "") for product in products]
    having: dict[str, list[int]] = defaultdict(list)
    for place, title in enumerate(titles):
        for word in set(title.split()):
            having[word].append(place)
    found: list[tuple[float, int, int]] = []
    for index, item in enumerate(items):
        title = _words(item.title)
        near = _near(title, having)
        alike = [titles[place] for place in near]
        best = process.extractOne(title, alike, scorer=fuzz.ratio, score_cutoff=LEAST_SCORE)
        if best is not None:
            found.append((best[1], index, near[best[2]]))
    pairs: list[Match] = []
    used: set[int] = set()
    for score, index, place in sorted(found, key=lambda one: (-one[0], one[1])):
        if place not in used:
            used.add(place)
            pairs.append(Match(items[index], products[place], "title", round(score, 1)))
    return pairs


def _near(title: str, having: dict[str, list[int]]) -> list[int]:
    """The listings that share the title's rarest words, as few as `ENOUGH` where possible."""
    places: dict[int, None] = {}
    for _, word in sorted((len(having[word]), word) for word in set(title.split()) if word in having):
        if len(places) >= ENOUGH or len(having[word]) > COMMON:
            break
        places |= dict.fromkeys(having[word])
    return list(places)


def _words(title: str) -> str:
    """The words of a title in alphabetical order: their own order says little."""
    return " ".join(sorted(re.findall(r"\w+", title.casefold())))

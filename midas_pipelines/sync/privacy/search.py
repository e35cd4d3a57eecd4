"""Finds what is kept of a person, by e-mail, phone, name, account or order, though payloads are sealed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from midas_pipelines.errors import WrongInput
from midas_pipelines.store.gateway.webhooks import ORDER
from midas_pipelines.store.privacy.keys import KeyRing
from midas_pipelines.store.privacy.persons import digest_of, identifiers, normal
from midas_pipelines.store.schema.gateway_tables import marketplace_webhooks
from midas_pipelines.store.schema.privacy_tables import person_digests
from midas_pipelines.store.schema.tables import marketplace_orders
from midas_pipelines.storefront.schema import orders
from midas_pipelines.sync.orders.lookup import NoSuchOrder, find_order

INDEX_LENGTH = 1000
"""Characters at the beginning of a sealed payload among which SQLite looks for its digests."""

_ORDERS, _EVENTS = marketplace_orders.c, marketplace_webhooks.c


@dataclass(frozen=True)
class Subject:
    """What a person is found by. `text` is never stored, and not shown when this is printed."""

    kind: str
    text: str

    def __repr__(self) -> str:
        return f"Subject({self.kind})"

    def stored(self, ring: KeyRing) -> str:
        """How a request names it: an order by its number, a person by a keyed digest."""
        if self.kind == "order":
            return f"order:{self.text}"[:100]
        return f"{self.kind}:{self.digest(ring.newest().indexing)}"

    def digest(self, key: bytes) -> str:
        """The digest under that key. Raises WrongInput where there is nothing to compare."""
        found = digest_of(self.kind, self.text, key)
        if found is None:
            raise WrongInput(f"The {self.kind} is empty: give it as the marketplace shows it.")
        return found


@dataclass(frozen=True)
class FoundPerson:
    """Our rows of the orders of a person, and the ids of events that belong to no order on record."""

    orders: list[sa.Row[Any]]
    events: list[int]


def find_person(connection: sa.Connection, ring: KeyRing, subject: Subject) -> FoundPerson:
    """What is kept of that person: by the digests of sealed payloads, and by the addresses in the shop's orders.

    Raises:
        WrongInput: there is nothing to compare, or no such order.
    """
    if subject.kind == "order":
        try:
            row = find_order(connection, subject.text)
        except NoSuchOrder:
            brought = sa.select(_EVENTS.id).where(_EVENTS.subject == f"{ORDER}{subject.text}")
            return FoundPerson([], list(connection.scalars(brought)))
        return FoundPerson([row], [])
    digests = [subject.digest(key.indexing) for key in ring.all()]
    named = sa.select(_EVENTS.id, _EVENTS.subject).where(_names(connection, _EVENTS.payload, digests))
    events = {row.id: (row.subject or "").removeprefix(ORDER) for row in connection.execute(named)}
    mine = sa.or_(
        _names(connection, _ORDERS.payload, digests),
        _ORDERS.marketplace_order_id.in_(set(events.values())),
        _ORDERS.local_order_id.in_(_in_the_shop(connection, subject)),
    )
    query = sa.select(marketplace_orders).where(mine, _ORDERS.erased_at.is_(None)).order_by(_ORDERS.id)
    found = list(connection.execute(query))
    known = {row.marketplace_order_id for row in found}
    return FoundPerson(found, [event for event, order in events.items() if order not in known])


def _names(connection: sa.Connection, payload: sa.Column[str], digests: list[str]) -> sa.ColumnElement[bool]:
    if connection.dialect.name == "postgresql":
        return person_digests(payload).overlap(digests)  # type: ignore[no-any-return]
    start = sa.func.substr(payload, 1, INDEX_LENGTH)
    return sa.or_(*(start.contains(f".{digest}.", autoescape=True) for digest in digests))


def _in_the_shop(connection: sa.Connection, subject: Subject) -> list[int]:
    """The shop's orders whose address names the person: the shop may have edited what the payload says."""
    addresses = sa.select(orders.c.id, orders.c.shipping_address, orders.c.billing_address).join(
        marketplace_orders, _ORDERS.local_order_id == orders.c.id
    )
    wanted, found = normal(subject.kind, subject.text), []
    query = addresses.where(_ORDERS.erased_at.is_(None)).execution_options(yield_per=1000)
    for row in connection.execute(query):
        said = identifiers([row.shipping_address, row.billing_address])
        if any(kind == subject.kind and normal(kind, text) == wanted for kind, text in said):
            found.append(row.id)
    return found

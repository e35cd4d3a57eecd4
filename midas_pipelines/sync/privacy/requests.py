"""What a person asks for: found, exported or erased, though payloads are sealed. Each request has its 30 days, its proof, and
what was sent to whom."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field, computed_field

from midas_pipelines.errors import WrongInput
from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database, InShadow
from midas_pipelines.store.gateway.webhooks import ORDER, empty_events
from midas_pipelines.store.orders import payload_vault as vaults
from midas_pipelines.store.orders.payload_vault import Vault
from midas_pipelines.store.privacy.keys import KeyRing
from midas_pipelines.store.privacy.register import RECIPIENTS, register_rows
from midas_pipelines.store.schema import order_tables as tables
from midas_pipelines.store.schema.gateway_tables import marketplace_webhooks
from midas_pipelines.store.schema.order_tables import privacy_requests
from midas_pipelines.store.schema.tables import marketplace_orders
from midas_pipelines.storefront.schema import orders
from midas_pipelines.storefront.types import utc_now
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.orders.lookup import NoSuchOrder, find_order
from midas_pipelines.sync.orders.model.order_log import OrderContext
from midas_pipelines.sync.privacy.erase import BuyerHeld, erase_order, places_of

INDEX_LENGTH = 1000
"""Characters at the beginning of a sealed payload among which SQLite looks for its digests."""

_REQUESTS, _ORDERS, _EVENTS = privacy_requests.c, marketplace_orders.c, marketplace_webhooks.c


@dataclass(frozen=True)
class Subject:
    """What a person is found by. `text` is never stored, and not shown when this is printed."""

    kind: str
    text: str = field(repr=False)

    def stored(self, ring: KeyRing) -> str:
        """How a request names it: an order by its number, a person by a keyed digest."""
        if self.kind == "order":
            return f"order:{self.text}"[:100]
        return f"{self.kind}:{self.digest(ring.newest().indexing)}"

    def digest(self, key: bytes) -> str:
        """The digest under that key. Raises WrongInput where there is nothing to compare."""
        found = vaults.digest_of(self.kind, self.text, key)
        if found is None:
            raise WrongInput(f"The {self.kind} is empty: give it as the marketplace shows it.")
        return found


class PrivacyAnswer(BaseModel):
    """What was found and done."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    request: int = Field(description="Its number in the list of requests.")
    kind: str
    due_at: datetime = Field(description="30 days after it came in.")
    orders: list[str] = Field(description="The orders of the person, by the marketplace's number.")
    events: int = Field(description="Stored events of no known order.")
    erased: list[str] = []
    held: dict[str, str] = Field({}, description="Orders that the law keeps, and why.")
    left: list[str] = Field([], description="Orders that were busy: send the request again.")
    notify: dict[str, str] = Field({}, description="Who got data of the person: inform them of the erasure.")
    export: dict[str, Any] | None = Field(None, description="The copy: data, purposes, recipients, periods.")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return not self.left


def answer_request(context: SyncContext, kind: str, subject: Subject, asked_by: str) -> PrivacyAnswer:
    """Records the request to find, export or erase, does it, and records the proof. One that was cut short is taken up again by
    the same words. Raises WrongInput where the subject is empty."""
    database, vault = context.database, vaults.vault_of(context.settings)
    words = {"kind": kind, "subject": subject.stored(vault.ring)}
    with database.writing() as connection:
        mine = sa.and_(
            *(_REQUESTS[name] == word for name, word in words.items()), _REQUESTS.done_at.is_(None)
        )
        known = sa.select(privacy_requests).where(mine).order_by(_REQUESTS.id).limit(1)
        adding = sa.insert(privacy_requests).values(**words, asked_by=asked_by).returning(privacy_requests)
        request = connection.execute(known).first() or connection.execute(adding).one()
    with database.reading() as connection:
        found, events = _find_person(connection, vault.ring, subject)
        names = [row.marketplace_order_id for row in found]
        begun = {"request": request.id, "kind": kind, "due_at": request.due_at}
        answer = PrivacyAnswer(**begun, orders=names, events=len(events))
        if kind == "export":
            brought = sa.select(marketplace_webhooks).where(_EVENTS.id.in_(events))
            answer.export = {
                "orders": [_opened_order(connection, context.settings, vault, row) for row in found],
                "events": _opened(connection, vault, brought),
                "fields": register_rows(),
                "recipients": RECIPIENTS,
            }
    if kind == "erase":
        for row, name in zip(found, names, strict=True):
            try:
                erase_order(database, row.id, OrderContext(context.run_id))
                answer.erased.append(name)
            except BuyerHeld as held:
                answer.held[name] = str(held)
            except (sa.exc.OperationalError, InShadow):  # another session holds it, or shadow mode is on
                answer.left.append(name)
        database.write(empty_events, events)
        answer.notify = dict(RECIPIENTS) if answer.erased else {}
        database.overwrite_erased()
    _record(database, answer, {*(request.orders or ()), *names})
    return answer


def _record(database: Database, answer: PrivacyAnswer, names: set[str]) -> None:
    proof = {name: getattr(answer, name) for name in ("erased", "held", "left", "events")}
    proof["answered_at"] = datetime.now(UTC).isoformat()
    mine = sa.update(privacy_requests).where(_REQUESTS.id == answer.request)
    done: dict[str, Any] = {"done_at": utc_now()} if answer.done else {}
    with database.writing() as connection:
        connection.execute(mine.values(orders=sorted(names), proof=proof, **done))


def note_sent(connection: sa.Connection, request: int, *, to: str, what: str, by: str) -> None:
    """Records that something about a request was sent to someone. Raises WrongInput for a request that is not known."""
    mine = _REQUESTS.id == request
    row = connection.execute(sa.select(privacy_requests).where(mine).with_for_update()).first()
    if row is None:
        raise WrongInput(f"There is no request {request}: `midas privacy requests` lists all.")
    sent = {"to": to, "what": what, "by": by, "at": datetime.now(UTC).isoformat()}
    connection.execute(sa.update(privacy_requests).where(mine).values(sent=[*(row.sent or []), sent]))


def list_requests(connection: sa.Connection, *, limit: int = 100) -> list[dict[str, Any]]:
    """The newest requests with their clock, proof, and what was sent to whom."""
    query = sa.select(privacy_requests).order_by(_REQUESTS.id.desc()).limit(limit)
    return [dict(row) for row in connection.execute(query).mappings()]


def late_requests(database: Database) -> list[dict[str, Any]]:
    """Requests whose 30 days are over without an answer, the oldest first."""
    late = sa.and_(_REQUESTS.done_at.is_(None), _REQUESTS.due_at < utc_now())
    query = sa.select(_REQUESTS.id.label("request"), _REQUESTS.kind, _REQUESTS.due_at).where(late)
    return database.rows(query.order_by(_REQUESTS.due_at))


def _find_person(
    connection: sa.Connection, ring: KeyRing, subject: Subject
) -> tuple[list[sa.Row[Any]], list[int]]:
    """Our rows of the orders of a person, and the ids of events that belong to no order on record: found by the digests of
    sealed payloads, and by the addresses in the shop's orders. Raises WrongInput where there is nothing to compare."""
    if subject.kind == "order":
        try:
            return [find_order(connection, subject.text)], []
        except NoSuchOrder:
            brought = sa.select(_EVENTS.id).where(_EVENTS.subject == f"{ORDER}{subject.text}")
            return [], list(connection.scalars(brought))
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
    return found, [event for event, order in events.items() if order not in known]


def _names(connection: sa.Connection, payload: sa.Column[str], digests: list[str]) -> sa.ColumnElement[bool]:
    if connection.dialect.name == "postgresql":
        return tables.person_digests(payload).bool_op("&&")(sa.literal(digests, sa.ARRAY(sa.Text)))
    start = sa.func.substr(payload, 1, INDEX_LENGTH)
    return sa.or_(*(start.contains(f".{digest}.", autoescape=True) for digest in digests))


def _in_the_shop(connection: sa.Connection, subject: Subject) -> list[int]:
    """The shop's orders whose address names the person: the shop may have edited what the payload says."""
    addresses = sa.select(orders.c.id, orders.c.shipping_address, orders.c.billing_address).join(
        marketplace_orders, _ORDERS.local_order_id == orders.c.id
    )
    wanted, found = vaults.normal(subject.kind, subject.text), []
    query = addresses.where(_ORDERS.erased_at.is_(None)).execution_options(yield_per=1000)
    for row in connection.execute(query):
        said = vaults.identifiers([row.shipping_address, row.billing_address])
        if any(kind == subject.kind and vaults.normal(kind, text) == wanted for kind, text in said):
            found.append(row.id)
    return found


def _opened_order(
    connection: sa.Connection, settings: Settings, vault: Vault, row: sa.Row[Any]
) -> dict[str, Any]:
    """Everything that is kept about one order, opened."""
    days = settings.erase_after(row.sales_channel)
    kept = "as long as the shop says" if days is None else f"{days} days after the delivery or the end"
    found: dict[str, Any] = {"order": row.marketplace_order_id, "kept": kept}
    for column, value in places_of(row):
        found[column.table.name] = _opened(connection, vault, sa.select(column.table).where(column == value))
    return found


def _opened(connection: sa.Connection, vault: Vault, query: sa.Select[Any]) -> list[dict[str, Any]]:
    found = [dict(row) for row in connection.execute(query).mappings()]
    for row in found:
        if row.get("payload"):
            try:
                row["payload"] = vault.open(row["payload"])
            except vaults.PayloadUnreadable as why:
                row["payload"] = str(why)
    return found

"""Imports sales, each once: in one transaction for many, split where one is refused or takes long.

When the database refuses a sale, the batch (`write.py`) is rolled back and split until that sale is alone, so that only the
bad one is quarantined. Sales whose rows are locked, or that fail as if the server were at fault, wait for the next round. A
sale that takes long, as by a slow trigger of the shop's, is written alone and last: no other one waits for it.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from threading import Event
from typing import Any

from sqlalchemy.exc import DBAPIError

from midas_pipelines.fourseller.status import OrderStatus
from midas_pipelines.store.database import Database
from midas_pipelines.store.operations.findings import ShadowRow, record_shadow_writes
from midas_pipelines.storefront import writing
from midas_pipelines.storefront.writing import Cause, blame, was_overtaken
from midas_pipelines.sync.orders.changes.exceptions import quarantine_order
from midas_pipelines.sync.orders.intake.write import ImportCounts, OutOfTurn, write_batch
from midas_pipelines.sync.orders.model.order_log import OrderContext
from midas_pipelines.sync.orders.model.sale import Sale

RANK = {status: place for place, status in enumerate(OrderStatus)}
NO_SUCH_CHARACTER = ("22P05", "22021")
CODECS = ("latin-1", "ascii")
"""Fallback encodings for a database that cannot store every character: the first that works is used."""
MOST_TRIES = 10
PARTS = 10  # of a batch that cannot be written: few steps, for each may take its whole time
PATIENT_SECONDS, HURRIED_SECONDS = 2.0, 0.2
"""How long sales whose rows are locked are retried; then they are left to the next round."""
STATEMENT_SECONDS, SECONDS_EACH = 0.2, 0.001  # for a statement, and more of it for each sale
HASTE, SHORTEST_SECONDS = 0.8, 0.05  # after each that took long the next gets so much of it, at least

LOCKED = "The shop has locked an item or its order."
SLOW = "The database takes long to write the order."

FIRST = Event()
"""The turn of a batch that waits for no other one."""
FIRST.set()

log = logging.getLogger(__name__)


def import_sales(
    database: Database,
    sales: Sequence[Sale],
    order_context: OrderContext,
    *,
    turn: Event = FIRST,
    hurried: bool = False,
) -> ImportCounts:
    """Imports new sales and updates known orders, in one transaction where it can; raises nothing for a bad sale.

    Sales whose rows are locked, for example by the shop's checkout, and with `hurried` those that the database takes long to
    write, are named in `postponed`: import them again later. `turn` is set once the batch before this one has ended, so that
    both allocate stock in their order.
    """
    return _Importer(database, order_context, turn, hurried).import_all(sales)


@dataclass
class _Importer:
    database: Database
    order_context: OrderContext
    turn: Event
    hurried: bool
    bounded: bool = True  # while no statement may take long
    late: int = 0  # how many did
    patient_until: float = 0.0  # when to stop waiting for locked rows
    written: int = 0  # sales written, or known before
    busy: list[Sale] = field(default_factory=list)  # they need locked rows
    slow: list[Sale] = field(default_factory=list)  # each takes long
    overtaken: set[str] = field(default_factory=set)  # their transaction was ended by PostgreSQL or a trigger
    doubtful: list[tuple[Sale, Exception]] = field(default_factory=list)

    def import_all(self, sales: Sequence[Sale]) -> ImportCounts:
        """Imports the sales; retries those whose rows are locked once, then leaves them to the caller. Raises Exception
        where nothing could be written, so no single sale is the cause."""
        result = ImportCounts()
        for batch in _rounds(sales):
            result.add(self._import_or_split(batch))
        again, self.busy = _rounds(self.busy), []
        if not self.hurried:
            again += [[sale] for sale in self.slow]
            self.bounded, self.slow = False, []
        self.patient_until = time.monotonic() + (HURRIED_SECONDS if self.hurried else PATIENT_SECONDS)
        for batch in again:
            result.add(self._import_or_split(batch))
        result.refused = {sale.order_id for sale in self.busy} & self.overtaken
        for sale, error in self.doubtful:
            if not (self.written or self.busy or self.slow):
                raise error
            log.error("Order %s cannot be written", sale.order_id, exc_info=error)
            if blame(error) is Cause.SERVER or not self.written:
                result.refused.add(sale.order_id)
            else:
                result.add(self._quarantine(sale, error))
        result.postponed |= {sale.order_id: SLOW for sale in self.slow}
        result.postponed |= {sale.order_id: LOCKED for sale in self.busy} | dict.fromkeys(result.refused, "")
        result.left_out = {name: why for name, why in result.left_out.items() if name not in result.new}
        return result

    def _import_or_split(self, batch: Sequence[Sale]) -> ImportCounts:
        """Imports the batch in one transaction; where a sale cannot be written, or takes long, in parts."""
        if not batch:
            return ImportCounts()
        try:
            return self._import(batch)
        except writing.RowsBusy as busy:
            names = busy.orders or {sale.order_id for sale in batch if len(batch) == 1}
            self.busy += [sale for sale in batch if sale.order_id in names]
            if names:
                return self._import_or_split([sale for sale in batch if sale.order_id not in names])
        except Exception as error:
            cause = blame(error)
            if cause is Cause.DATABASE or (cause is Cause.SESSION and len(batch) == 1):
                raise
            self.late += cause is Cause.SLOW
            if len(batch) == 1:
                return self._alone(batch[0], cause, error)
        result, size = ImportCounts(), max(1, len(batch) // PARTS)
        for start in range(0, len(batch), size):
            result.add(self._import_or_split(batch[start : start + size]))
        return result

    def _alone(self, sale: Sale, cause: Cause, error: Exception) -> ImportCounts:
        state = getattr(getattr(error, "orig", None), "sqlstate", None)
        lacking = isinstance(error, UnicodeEncodeError) or state in NO_SUCH_CHARACTER
        for codec in CODECS if lacking else ():
            if (held := _in_codec(sale, codec)) != sale:
                return self._import_or_split([held])
        if cause is Cause.ROW:
            return self._quarantine(sale, error)
        if cause is Cause.BUSY or (self.bounded and cause is Cause.SLOW):
            waited = cause is Cause.BUSY or self.patient_until  # for locked rows
            (self.busy if waited else self.slow).append(sale)
            if isinstance(error, DBAPIError) and was_overtaken(error):
                self.overtaken.add(sale.order_id)
            return ImportCounts()
        self.doubtful.append((sale, error))
        if isinstance(error, DBAPIError) and not self.written and len(self.doubtful) >= writing.MANY_DOUBTFUL:
            raise error
        return ImportCounts()

    def _quarantine(self, sale: Sale, error: Exception) -> ImportCounts:
        """Quarantines a sale that the database refuses; a known order still gets its status."""
        why = writing.in_words(error, sale.raw)
        reason = f"The shop's tables refused it: {why} Check its order number and amounts."
        kept = quarantine_order(self.database, self.order_context, sale.order_id, sale.raw, reason)
        if kept is not None:
            return quarantined(sale.order_id, kept)
        if sale.unreadable_reason is not None:  # even the status cannot be written; the next poll retries
            return ImportCounts(failed=1)
        return self._import_or_split([replace(sale, content={}, unreadable_reason=reason)])

    def _import(self, sales: Sequence[Sale]) -> ImportCounts:
        """Imports the sales in one transaction, retried when another importer was faster. Only the first of a batch may run
        ahead of its turn, and on SQLite, which has one writer, none."""
        one = max(SHORTEST_SECONDS, STATEMENT_SECONDS * HASTE**self.late)
        bound = one + SECONDS_EACH * len(sales) if self.bounded else None
        if not self.database.is_postgresql:
            self.turn.wait()
        for tries in range(1, MOST_TRIES + 1):
            try:
                with self.database.writing(statement_seconds=bound) as connection:
                    if time.monotonic() >= self.patient_until:  # locked sales are retried alone
                        connection.execution_options(**{writing.NO_WAIT: True})
                    result = write_batch(connection, sales, self.order_context, self.turn)
                break
            except OutOfTurn:
                pass
            except DBAPIError as error:
                if tries == MOST_TRIES or not was_overtaken(error):
                    raise
            finally:
                self.turn.wait()
        if self.database.shadow:  # it was rolled back
            lines = {sale.order_id: len(sale.lines) for sale in sales}
            rows = [ShadowRow("order", one, "import", {"lines": lines[one]}) for one in result.new]
            record_shadow_writes(self.database, rows, self.order_context.run_id)
        self.written += len(sales)
        return result


def _rounds(sales: Sequence[Sale]) -> list[list[Sale]]:
    """The sales in batches that each have one message of an order, its oldest in the first; of one moment, the further
    status is the later. Within a batch the first placed comes first."""

    def updated(sale: Sale) -> datetime:
        return sale.updated_at or sale.ordered_at

    of_order = defaultdict[str, list[Sale]](list)
    for sale in sales:
        of_order[sale.order_id].append(sale)
    most = max(map(len, of_order.values()), default=0)
    if most > 1:
        for mine in of_order.values():
            mine.sort(key=lambda sale: (updated(sale), RANK[sale.status]))
    found = [[mine[place] for mine in of_order.values() if place < len(mine)] for place in range(most)]
    return [sorted(batch, key=lambda sale: (sale.ordered_at, updated(sale))) for batch in found]


def _in_codec(sale: Sale, codec: str) -> Sale:
    """The sale with a question mark for each character that the codec lacks; in ids an escape, to keep them distinct."""

    def held(value: Any, lacking: str = "replace") -> Any:
        if isinstance(value, str):
            return value.encode(codec, lacking).decode(codec)
        if isinstance(value, dict):
            return {held(name): held(part) for name, part in value.items()}
        return [held(part) for part in value] if isinstance(value, list) else value

    lines = tuple(replace(line, sku=held(line.sku), title=held(line.title)) for line in sale.lines)
    texts = {name: held(getattr(sale, name)) for name in ("sales_channel", "status_word", "buyer", "ship_to")}
    texts |= {"raw": held(sale.raw), "order_id": held(sale.order_id, "backslashreplace"), "lines": lines}
    changed = replace(sale, **texts)
    return sale if changed == sale else replace(changed, sealed=None)


def quarantined(order_id: str, kept: str) -> ImportCounts:
    """The result of a quarantined order; `kept` as `quarantine_order` returns it."""
    if kept == "busy":
        return ImportCounts(postponed={order_id: LOCKED})
    if kept != "new":
        return ImportCounts(already_known=1)
    preview = {"order": order_id, "channel": "", "total": "", "lines": "", "exception": "quarantined"}
    return ImportCounts(failed=1, preview=[preview])

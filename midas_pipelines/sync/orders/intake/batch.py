"""Imports marketplace sales once each: order, lines, stock deduction, ledger and log in one transaction.

Poll and webhook both use `import_sales`. A batch is one statement for each table (`write.py`); when the database refuses
a sale, the batch is rolled back and halved until that sale is alone, so that only the bad one is quarantined. Sales whose
rows are locked, or that fail as if the server were at fault, wait for the next round.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy.exc import DBAPIError

from midas_pipelines.settings import Settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.operations.shadow import ShadowRow, record_shadow_writes
from midas_pipelines.store.orders.payload_vault import Vault
from midas_pipelines.storefront.refusals import (
    MANY_DOUBTFUL,
    NO_WAIT,
    Cause,
    RowsBusy,
    blame,
    in_words,
    was_overtaken,
)
from midas_pipelines.sync.orders.changes import quarantine
from midas_pipelines.sync.orders.intake.result import ImportCounts, quarantined_order, skipped_as_old
from midas_pipelines.sync.orders.intake.write import write_batch
from midas_pipelines.sync.orders.model.merge import newest_states
from midas_pipelines.sync.orders.model.order_log import OrderContext
from midas_pipelines.sync.orders.model.sale import Content, Sale, in_codec

MANY = 100
NO_SUCH_CHARACTER = ("22P05", "22021")
CODECS = ("latin-1", "ascii")
"""Fallback encodings for a database that cannot store every character: the first that works is used."""
MOST_TRIES = 10
PATIENT_SECONDS = 2.0
"""How long sales whose rows are locked are retried; then they are left to the next round."""

log = logging.getLogger(__name__)


def import_sales(
    database: Database,
    sales: Sequence[Sale],
    vault: Vault,
    run_id: str | None,
    *,
    mail: Settings | None = None,
    since: datetime | None = None,
    on_writing: Callable[[], None] = lambda: None,
) -> ImportCounts:
    """Imports new sales and updates known orders; raises nothing for a bad sale.

    Sales whose rows are locked, for example by the shop's checkout, are named in `postponed`: import them again later.

    Args:
        database: the shop's.
        sales: any number; the caller chooses the size of a transaction.
        vault: seals the payloads.
        run_id: written to each log row.
        mail: the settings of customer mail; None sends none.
        since: orders placed earlier are not imported; known orders are updated all the same.
        on_writing: called when most rows are made and the database begins to write them: the time to prepare more.
    """
    batch = [
        replace(sale, left_out=sale.left_out or skipped_as_old(sale, since)) if since else sale
        for sale in newest_states(sales)
    ]
    result = ImportCounts(duplicates=len(sales) - len(batch))
    with _collecting_later(len(batch)):
        result.add(_Importer(database, OrderContext(run_id, vault, mail), on_writing).import_all(batch))
    return result


@contextmanager
def _collecting_later(sales: int) -> Iterator[None]:
    """Pauses garbage collection for a large batch: its rows have no cycles, and collection takes a sixth of the time."""
    if sales < MANY or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@dataclass
class _Importer:
    database: Database
    order_context: OrderContext
    on_writing: Callable[[], None]
    patient_until: float = 0.0  # when to stop waiting for locked rows
    written: int = 0  # sales written, or known before
    busy: list[Sale] = field(default_factory=list)  # they need locked rows
    overtaken: set[str] = field(
        default_factory=set
    )  # PostgreSQL, or a trigger, ended each of their transactions
    doubtful: list[tuple[Sale, Exception]] = field(default_factory=list)

    def import_all(self, batch: Sequence[Sale]) -> ImportCounts:
        """Imports the batch; retries sales whose rows are locked once, then leaves them to the caller.

        Raises:
            Exception: nothing could be written, so no single sale is the cause.
        """
        result = self._import_or_halve(batch)
        if self.busy:
            again, self.busy = sorted(self.busy, key=lambda sale: (sale.ordered_at, sale.order_id)), []
            self.patient_until = time.monotonic() + PATIENT_SECONDS
            result.add(self._import_or_halve(again))
        result.refused = {sale.order_id for sale in self.busy} & self.overtaken
        for sale, error in self.doubtful:
            if not self.written:
                raise error
            log.error("Order %s cannot be written", sale.order_id, exc_info=error)
            if blame(error) is Cause.SERVER:
                result.refused.add(sale.order_id)
            else:
                result.add(self._quarantine(sale, error))
        result.postponed = {sale.order_id for sale in self.busy} | result.refused
        return result

    def _import_or_halve(self, batch: Sequence[Sale]) -> ImportCounts:
        """Imports the batch in one transaction; where a sale cannot be written, in two halves."""
        if not batch:
            return ImportCounts()
        try:
            result = self._import(batch)
            self.written += len(batch)
            return result
        except RowsBusy as busy:
            self.busy += [sale for sale in batch if sale.order_id in busy.orders]
            if busy.orders:
                return self._import_or_halve([sale for sale in batch if sale.order_id not in busy.orders])
            if len(batch) == 1:
                self.busy.append(batch[0])
                return ImportCounts()
        except Exception as error:
            cause = blame(error)
            if cause is Cause.DATABASE or (cause is Cause.SESSION and len(batch) == 1):
                raise
            if len(batch) == 1:
                for codec in CODECS if _is_of_characters(error) else ():
                    if (held := in_codec(batch[0], codec)) != batch[0]:
                        return self._import_or_halve([held])
                return self._alone(batch[0], cause, error)
        middle = len(batch) // 2
        result = self._import_or_halve(batch[:middle])
        result.add(self._import_or_halve(batch[middle:]))
        return result

    def _alone(self, sale: Sale, cause: Cause, error: Exception) -> ImportCounts:
        if cause is Cause.BUSY:
            self.busy.append(sale)
            if isinstance(error, DBAPIError) and was_overtaken(error):
                self.overtaken.add(sale.order_id)
        elif cause is Cause.ROW:
            return self._quarantine(sale, error)
        else:
            self.doubtful.append((sale, error))
            if not self.written and len(self.doubtful) >= MANY_DOUBTFUL:
                raise error
        return ImportCounts()

    def _quarantine(self, sale: Sale, error: Exception) -> ImportCounts:
        """Quarantines a sale that the database refuses; a known order still gets its status."""
        reason = (
            f"The shop's tables refused it: {in_words(error, sale.raw)} Check its order number and amounts."
        )
        order_context = self.order_context
        kept = quarantine.quarantine_order(
            self.database, sale.order_id, sale.raw, reason, order_context.vault, order_context.run_id
        )
        if kept is not None:
            return quarantined_order(sale.order_id, new=kept == "new")
        if sale.unreadable_reason is not None:  # even the status cannot be written; the next poll retries
            return ImportCounts(failed=1)
        return self._import_or_halve([replace(sale, content=Content(), unreadable_reason=reason)])

    def _import(self, sales: Sequence[Sale]) -> ImportCounts:
        """Imports the sales in one transaction, retried when another importer was faster."""
        for _ in range(MOST_TRIES - 1):
            try:
                return self._import_once(sales)
            except DBAPIError as error:
                if not was_overtaken(error):
                    raise
        return self._import_once(sales)

    def _import_once(self, sales: Sequence[Sale]) -> ImportCounts:
        with self.database.writing() as connection:
            if time.monotonic() >= self.patient_until:  # locked sales are retried alone
                connection.execution_options(**{NO_WAIT: True})
            result = write_batch(connection, sales, self.order_context, self.on_writing)
        if self.database.shadow:  # it was rolled back
            self._record(sales, result)
        return result

    def _record(self, sales: Sequence[Sale], result: ImportCounts) -> None:
        by_id = {sale.order_id: sale for sale in sales}
        rows = [ShadowRow("order", one, "import", {"lines": len(by_id[one].lines)}) for one in result.new]
        record_shadow_writes(self.database, rows, self.order_context.run_id)


def _is_of_characters(error: Exception) -> bool:
    """Whether the error is a character that the database's encoding lacks."""
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    return isinstance(error, UnicodeEncodeError) or state in NO_SUCH_CHARACTER

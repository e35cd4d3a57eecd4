"""Importing marketplace sales: order, lines, stock deduction, ledger and log in one transaction, once each.

Polling and pushed events come through `import_sales` alike. A batch is one statement for each table (`writing.py`); when
one sale in it breaks a rule of the shop's tables the batch is rolled back and halved until that sale is alone, so that
only the bad one is set aside.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError

from midas_pipelines.store.database import Database
from midas_pipelines.store.payloads import Vault
from midas_pipelines.sync.orders import set_aside
from midas_pipelines.sync.orders.beginning import left_out
from midas_pipelines.sync.orders.clerk import Clerk
from midas_pipelines.sync.orders.content import Content
from midas_pipelines.sync.orders.imported import Imported, left_aside
from midas_pipelines.sync.orders.mail_rules import SILENT, MailRules
from midas_pipelines.sync.orders.sales import Sale, in_codec, newest_states
from midas_pipelines.sync.orders.writing import write_batch

MANY = 100
DEADLOCK, ONCE = "40P01", "marketplace_orders_once"
NO_SUCH_CHARACTER = ("22P05", "22021")
CODECS = ("latin-1", "ascii")
"""What a database that cannot hold every character surely holds: the first in which the order can be written counts."""
MOST_TRIES = 10


def import_sales(
    database: Database,
    sales: Sequence[Sale],
    vault: Vault,
    run_id: str | None,
    *,
    mail: MailRules = SILENT,
    since: datetime | None = None,
    on_sent: Callable[[], None] = lambda: None,
) -> Imported:
    """Imports the sales that are new and moves the known ones on; raises nothing for a bad sale.

    Args:
        database: the shop's.
        sales: any number; the caller chooses the size of a transaction.
        vault: seals the payloads.
        run_id: noted in each log row.
        mail: which customers get a confirmation.
        since: orders placed earlier are not imported; those that are imported already are followed all the same.
        on_sent: called when all has been handed to the database, which is still at work on it: the time to prepare more.
    """
    batch = [
        sale if left_out(sale, since) is None else replace(sale, only_followed=True)
        for sale in newest_states(sales)
    ]
    result = Imported(duplicates=len(sales) - len(batch))
    with _collecting_later(len(batch)):
        result.add(_Importer(database, Clerk(run_id, vault, mail), on_sent).import_or_halve(batch))
    return result


@contextmanager
def _collecting_later(sales: int) -> Iterator[None]:
    """Spares a large batch the search for garbage in cycles: its rows have none, and looking through them again and
    again is a sixth of an import's time."""
    if sales < MANY or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@dataclass(frozen=True)
class _Importer:
    database: Database
    clerk: Clerk
    on_sent: Callable[[], None]

    def import_or_halve(self, batch: Sequence[Sale]) -> Imported:
        """Imports the batch in one transaction; where a sale in it cannot be written, in two halves, the first first."""
        if not batch:
            return Imported()
        try:
            return self._import(batch)
        except (IntegrityError, DataError, UnicodeEncodeError) as trouble:
            if len(batch) == 1:
                for codec in CODECS if _is_of_characters(trouble) else ():
                    if (held := in_codec(batch[0], codec)) != batch[0]:
                        return self.import_or_halve([held])
                return self._leave(batch[0], type(getattr(trouble, "orig", trouble)).__name__)
        middle = len(batch) // 2
        result = self.import_or_halve(batch[:middle])
        result.add(self.import_or_halve(batch[middle:]))
        return result

    def _leave(self, sale: Sale, kind: str) -> Imported:
        """Sets a sale aside that the shop's tables refuse; of one that is known, still follows the status.

        Args:
            sale: the one.
            kind: the rule's; the driver's text can hold values of the order.
        """
        reason = f"The shop's tables refused it: {kind}. Check its order number and amounts."
        clerk = self.clerk
        kept = set_aside.keep(self.database, sale.order_id, sale.raw, reason, clerk.vault, clerk.run_id)
        if kept is not None:
            return left_aside(sale.order_id, reason, new=kept == "new")
        if sale.trouble is not None:  # even the status alone cannot be written; the next reading tries again
            return Imported(failed=1)
        return self.import_or_halve([replace(sale, content=Content(), trouble=reason)])

    def _import(self, sales: Sequence[Sale]) -> Imported:
        """Imports the sales in one transaction, begun again when another importer got ahead of it."""
        for _ in range(MOST_TRIES - 1):
            try:
                return self._import_once(sales)
            except (IntegrityError, OperationalError) as trouble:
                if not _was_overtaken(trouble):
                    raise
        return self._import_once(sales)

    def _import_once(self, sales: Sequence[Sale]) -> Imported:
        with self.database.writing() as connection:
            return write_batch(connection, sales, self.clerk, self.on_sent)


def _is_of_characters(trouble: Exception) -> bool:
    """Whether the database's encoding lacks a character."""
    state = getattr(getattr(trouble, "orig", None), "sqlstate", None)
    return isinstance(trouble, UnicodeEncodeError) or state in NO_SUCH_CHARACTER


def _was_overtaken(trouble: DBAPIError) -> bool:
    """Whether another importer wrote one of the same orders first, or PostgreSQL parted two that wait in a ring."""
    if getattr(trouble.orig, "sqlstate", None) == DEADLOCK:
        return True
    constraint = getattr(getattr(trouble.orig, "diag", None), "constraint_name", None)
    return bool(constraint == ONCE)

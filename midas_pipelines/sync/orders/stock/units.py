"""Where the units of an order are, and what moves them: allocated, shipped, released, returned or backordered, each unit once.

Of a line's quantity, `allocated` units were allocated and `released` went back to stock, `returned` of these after shipping;
`shipped` units left. A line without an item allocates nothing, but can be shipped. A `line` is a row of
`marketplace_order_lines`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from midas_pipelines.errors import WrongInput
from midas_pipelines.fourseller.status import ENDED, SHIPPED_STATES, OrderStatus
from midas_pipelines.notify.alerts import clear_alerts, open_subjects, raise_alert
from midas_pipelines.store.items.mappings import mark_dirty
from midas_pipelines.store.schema.order_tables import order_shipments
from midas_pipelines.store.schema.tables import ITEM_KEY, mappings, marketplace_order_lines
from midas_pipelines.store.stock.ledger import StockMove, move_stock
from midas_pipelines.storefront.catalog import ItemKey, alert_subject
from midas_pipelines.storefront.schema import order_items
from midas_pipelines.storefront.writing import any_of, insert_columns, reserve_ids, update_rows
from midas_pipelines.sync.orders.model import lines
from midas_pipelines.sync.orders.model.lines import CHANNEL, OrderException, SoldLine, reference
from midas_pipelines.sync.orders.model.order_log import StoredOrder

ALERT = "oversold"
_LINES = marketplace_order_lines.c


def on_order(line: Any) -> int:
    """The units that the line holds: allocated on the shelf, or with the customer."""
    return int(line.allocated - line.released)


def on_shelf(line: Any, *, all_shipped: bool = False) -> int:
    """The units allocated to the line that have not shipped; none where the whole order has, on record or not."""
    unshipped = int(line.allocated - (line.released - line.returned) - line.shipped)
    return 0 if all_shipped else max(0, min(on_order(line), unshipped))


def accounted(line: Any) -> int:
    """The units that came from stock: held now, or returned after shipping."""
    return on_order(line) + int(line.returned)


def away(line: Any, *, all_shipped: bool = False) -> int:
    """The allocated units that shipped and have not been returned."""
    return on_order(line) - on_shelf(line, all_shipped=all_shipped)


def left_to_ship(line: Any) -> int:
    """The units that can still be shipped."""
    if line.product_id is None and not line.allocated:
        return max(0, int(line.quantity - line.shipped))
    return on_shelf(line)


def shipments_on_record(order: StoredOrder) -> bool:
    """Whether a shipment of the shop's order is on record, booked or not."""
    shipped = sa.exists().where(order_shipments.c.order_id == order.local_order_id)
    return bool(order.connection.scalar(sa.select(shipped)))


def _says_shipped(order: StoredOrder, shop: str | None) -> bool:
    return shop in SHIPPED_STATES or order.status in SHIPPED_STATES


def has_shipped(order: StoredOrder, shop: str | None) -> bool:
    """Whether goods have shipped, by either side's status or by a shipment on record; `shop` is the shop's status."""
    return _says_shipped(order, shop) or shipments_on_record(order)


def is_fully_shipped(order: StoredOrder, shop: str | None) -> bool:
    """Whether everything has shipped without a shipment on record: by either side's status, or because the order has
    ended and what it still holds can only have shipped."""
    return (_says_shipped(order, shop) or order.status in ENDED) and not shipments_on_record(order)


def units_shipped(order: StoredOrder, shop: str | None) -> dict[int, int]:
    """The shipped units by line: from the shipments, or all of them where there are none and a status says shipped."""
    everything = _says_shipped(order, shop) and not shipments_on_record(order)
    return {line.line: line.quantity if everything else line.shipped for line in order.lines()}


def item_of(line: Any) -> ItemKey:
    """The item that a line sold."""
    return (line.product_id, line.variant_id)


def set_backordered(
    order: StoredOrder, line: Any, backordered: int, unmapped: bool | None = None, **columns: Any
) -> None:
    """Writes how many units a line is backordered now, with other columns; `oversold` of line and order follows, as does the alert
    of its item, and `unmapped` of the line where it is given."""
    found = lines.read_exceptions(line.exception)
    for word, there in ((OrderException.OVERSOLD, backordered > 0), (OrderException.UNMAPPED, unmapped)):
        if there is not None:
            (found.add if there else found.discard)(word)
    columns |= {"backordered": backordered, "exception": lines.exception_text(found)}
    update_rows(order.connection, marketplace_order_lines, [{"id": line.id, **columns}])
    order.match_exceptions()
    item = tuple(columns.get(name) or getattr(line, name) for name in ("product_id", "variant_id"))
    if backordered > line.backordered:
        raise_oversold_alert(order.connection, order.marketplace_order_id, line.sku, item, backordered)
    elif line.backordered:
        clear_oversold_alert(order.connection, [item])


def allocate_units(
    order: StoredOrder, line: Any, item: ItemKey, missing: int, gone: int, source: str, **columns: Any
) -> tuple[int, str]:
    """Allocates `missing` units to a line, `gone` of which have shipped; returns how many it has got, and that in words for
    the order log. Where more have shipped than the stock has, its count was wrong and is corrected first."""
    connection, order_id = order.connection, order.marketplace_order_id
    name = reference(order_id, line.line, line.allocated)
    got = -move_stock(connection, [StockMove(item, -missing, source, "sale", name)])[0]
    uncounted, words = min(missing - got, max(0, gone - got)), f"took {got} from stock."
    if uncounted:
        correction = StockMove(item, uncounted, "operator", "uncounted", f"resolved:{name}")
        later = reference(order_id, line.line, line.allocated + got)
        sale = StockMove(item, -uncounted, source, "sale", later)
        uncounted = -move_stock(connection, [correction, sale])[1]
        words += f" {uncounted} more have shipped than the counted stock had: count the item."
    got += uncounted
    set_backordered(order, line, line.backordered + missing - got, allocated=line.allocated + got, **columns)
    return got, words


def write_lines(
    connection: sa.Connection, added: Sequence[SoldLine], order_rows: Sequence[int], *, shop: bool
) -> None:
    """Writes our rows of new lines, of the orders in these rows of ours, as if the stock had all that they want, which
    `allocate_lines` corrects; reserves ids for the shop's, unless it has deleted its order."""
    if not added:
        return
    count, above = len(added), {}
    if connection.dialect.name != "postgresql":  # the shop may not have the rows reserved last yet
        newest = sa.select(_LINES.order_item_id).where(_LINES.order_item_id > 0).order_by(_LINES.id.desc())
        above[order_items] = connection.scalar(newest.limit(1)) or 0
    numbers = {marketplace_order_lines: count, order_items: count if shop else 0}
    ids = reserve_ids(connection, numbers, above)
    of_shop = ids[order_items] or [0] * count
    for line, row_id, item_id in zip(added, ids[marketplace_order_lines], of_shop, strict=True):
        line.row_id, line.order_item_id, line.allocated = row_id, item_id, line.wanted
    own = ("order_item_id", "allocated", "backordered")
    ours = {
        "id": ids[marketplace_order_lines],
        "order_id": order_rows,
        "line": [line.number for line in added],
        **{name: [getattr(line.line, name) for line in added] for name in lines.SAID},
        **{name: [getattr(line, name) for line in added] for name in own},
        **lines.columns_of_items(added),
        "exception": [lines.exception_text(line.exceptions) for line in added],
    }
    insert_columns(connection, marketplace_order_lines, ours)


def allocate_lines(connection: sa.Connection, added: Sequence[SoldLine], local_ids: Sequence[int]) -> None:
    """Allocates stock to lines that are written, and writes the shop's rows of them, of its orders with these ids; none where
    there are no ids, since it has deleted its order."""
    taking, moves, short = [(line, line.item) for line in added if line.item and line.wanted], [], []
    for line, item in taking:
        name = reference(line.sale.order_id, line.number)
        moves.append(StockMove(item, -line.wanted, CHANNEL, "sale", name))
    for (line, _), delta in zip(taking, move_stock(connection, moves), strict=True):
        if line.allocated != -delta:  # what is missing is backordered
            line.allocated = -delta
            short.append(line)
    if local_ids:
        insert_columns(connection, order_items, lines.shop_lines(added, local_ids))
    changes = [
        {"id": line.row_id, "allocated": line.allocated, "backordered": line.backordered}
        | {"exception": lines.exception_text(line.exceptions)}
        for line in short
    ]
    update_rows(connection, marketplace_order_lines, changes)


def allocate_again(order: StoredOrder, shop: str | None, *, whole: bool) -> int:
    """Allocates again the released units that shipped, or with `whole` all units sold; returns how many."""
    again, shipped = 0, units_shipped(order, shop)
    for line in order.lines():
        gone = shipped[line.line] - accounted(line)
        missing = (line.quantity - accounted(line) if whole else gone) - line.backordered
        if line.product_id is not None and missing > 0:
            got, words = allocate_units(order, line, item_of(line), missing, max(0, gone), CHANNEL)
            again += got
            order.log("deducted", f"Line {line.line}, {line.sku}, again: {words}")
    return again


def release_units(order: StoredOrder, status: OrderStatus, *, all_shipped: bool) -> None:
    """Releases the units of a cancelled or refunded order that have not shipped, and ends its backorders and the exceptions of
    lines that will not ship; `all_shipped` also where no shipment is on record. Idempotent."""
    held = order.lines()
    if order.resolution != "cancelled":  # which has released the units already
        shelved = {line.line: on_shelf(line, all_shipped=all_shipped) for line in held}
        give_back(order, shelved, status.value, CHANNEL)
        for line in held:
            if line.backordered:
                set_backordered(order, line, 0)
    if not all_shipped:
        of_order = sa.update(marketplace_order_lines).where(_LINES.order_id == order.id)
        order.connection.execute(of_order.values(exception=None))
        order.match_exceptions(OrderException.QUANTITY)


Asked = Mapping[int, int | None] | None
"""Units of lines that a person names, by line number: None for all of a line; None for all of the order."""


def asked_units(asked: Asked, whole: Mapping[int, int]) -> dict[int, int]:
    """The units by line number that were asked for; `whole` is what all of each line is."""
    if asked is None:
        return dict(whole)
    return {line: whole.get(line, 0) if count is None else count for line, count in asked.items()}


def units_within(asked: Asked, most: Mapping[int, int], what: str) -> dict[int, int]:
    """The same, of the units that there are: `what` they are, in words. Raises WrongInput where a line has fewer, or is not
    there."""
    wanted = asked_units(asked, most)
    for line, count in wanted.items():
        if line not in most:
            raise WrongInput(f"The order has no line {line}: `midas orders show` numbers them.")
        if count > most[line]:
            raise WrongInput(f"Line {line} has {most[line]} {what}, not {count}. Nothing was changed.")
    return {line: count for line, count in wanted.items() if count}


def returnable(order: StoredOrder, *, all_shipped: bool | None = None) -> dict[int, int]:
    """The units of each line that have shipped and not been returned yet; `all_shipped` as in `on_shelf`, None where the
    order's statuses say whether."""
    whole = is_fully_shipped(order, order.shop_status()) if all_shipped is None else all_shipped
    return {line.line: away(line, all_shipped=whole) for line in order.lines()}


def restock_units(order: StoredOrder, units: Asked = None) -> int:
    """Restocks returned goods; returns how many units. Raises WrongInput where fewer units are `returnable`."""
    back = units_within(units, returnable(order), "units that have left and not come back")
    return give_back(order, back, "returned", "operator", had_shipped=True)


def give_back(
    order: StoredOrder, units: Mapping[int, int], cause: str, source: str, *, had_shipped: bool = False
) -> int:
    """Puts units of lines of a locked order back in stock, by line number; returns how many."""
    giving = [line for line in order.lines() if units.get(line.line, 0) > 0 and line.product_id is not None]
    moves = []
    for line in giving:
        name = reference(order.marketplace_order_id, line.line, line.released)
        moves.append(StockMove(item_of(line), units[line.line], source, cause, name))
    changes, moved = [], move_stock(order.connection, moves)
    for line, count in zip(giving, moved, strict=True):
        returned = line.returned + (count if had_shipped else 0)
        changes.append({"id": line.id, "released": line.released + count, "returned": returned})
        outcome = f"{count} back in stock" if count else "nothing restocked, the shop no longer has the item"
        order.log("released", f"Line {line.line}, {line.sku}: {outcome}.")
    update_rows(order.connection, marketplace_order_lines, changes)
    return sum(moved)


def raise_oversold_alerts(connection: sa.Connection, sold: Iterable[SoldLine]) -> None:
    """Alerts staff to the items that these lines oversold."""
    for item, line in {line.item: line for line in sold if line.backordered > 0}.items():
        if item is not None:
            raise_oversold_alert(connection, line.sale.order_id, line.line.sku, item, line.backordered)


def raise_oversold_alert(
    connection: sa.Connection, order_id: str, sku: str | None, item: ItemKey, backordered: int
) -> None:
    """Alerts staff to an item that a line of this order oversold, and pushes its quantity again even if it was pushed
    before: the channel that oversold may show an outdated one."""
    text = (
        f"{sku or f'Product {item[0]}'} is oversold: order {order_id} waits for {backordered}. "
        "Restock it, or cancel on the marketplace. `midas orders list --exception oversold` shows all."
    )
    raise_alert(connection, kind=ALERT, subject=alert_subject(*item), text=text)
    same = (mappings.c.product_id == item[0], ITEM_KEY.in_([item[1] or 0]))
    rows = list(connection.scalars(sa.select(mappings.c.id).where(*same)))
    mark_dirty(connection, rows, acked_quantity=None, next_attempt_at=None)  # not one being pushed now


def clear_oversold_alert(connection: sa.Connection, items: Collection[ItemKey] | None = None) -> None:
    """Closes the alerts of those of these items that no order waits for; without `items` of all, since the shop may have
    deleted one and reused its id."""
    found = set() if items == set() else open_subjects(connection, ALERT)
    if items is not None:
        found &= {alert_subject(*item) for item in items}
    if found:
        products = any_of(connection, _LINES.product_id, {int(subject.split(":")[1]) for subject in found})
        query = sa.select(_LINES.product_id, _LINES.variant_id).where(_LINES.backordered > 0, products)
        waiting = {alert_subject(*item) for item in connection.execute(query)}
        clear_alerts(connection, kind=ALERT, subjects=sorted(found - waiting))

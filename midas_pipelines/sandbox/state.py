"""The state of the sandbox: products, stock, orders; and 4Seller's rules for them.

Nothing here waits, so that every call is one atomic step of the event loop. Each change is written to the file, if there is
one, and passed to the listeners (webhooks).
"""

import json
import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from midas_pipelines.fourseller.contract import next_statuses

Json = dict[str, Any]
Date = datetime | None
Listener = Callable[[str, Json], None]

TAKES_NO_STOCK = frozenset({"cancelled", "refunded"})
CHANGED_BY_US = ("id", "created_at", "updated_at")

FILE = """
PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;
CREATE TABLE IF NOT EXISTS kept (kind, id, value, PRIMARY KEY (kind, id));
"""
WRITE = "INSERT INTO kept VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"


class Refused(Exception):
    """A refused call: `status` and `code` as in the contract."""

    headers: Sequence[tuple[bytes, bytes]] = ()

    def __init__(self, status: int, code: str, message: str, details: Any = None) -> None:
        super().__init__(message)
        self.status, self.code, self.details = status, code, details


class State:
    """Everything one seller has on the sandbox."""

    def __init__(self) -> None:
        self.honour_idempotency_key = True
        self.products: dict[str, Json] = {}
        self.orders: dict[str, Json] = {}
        self.number_ids = False  # new ids are digits alone
        self.listeners: list[Listener] = []
        self._by_sku: dict[str, dict[str, None]] = {}
        self._keys: dict[str, str] = {}
        self._numbers = {"product": 0, "order": 0}
        self._tables: dict[str, dict[str, Any]] = {
            "number": self._numbers,
            "key": self._keys,
            "product": self.products,
            "order": self.orders,
        }
        self._file: sqlite3.Connection | None = None

    def open(self, path: str) -> None:
        """Loads the file, a database of SQLite, and writes every change to it from now on.

        A change is handed to the operating system before the call is answered, so the file survives a SIGKILL (not a loss
        of power: nothing is fsynced).
        """
        self._file = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._file.executescript(FILE)
        for kind, key, value in self._file.execute("SELECT kind, id, value FROM kept ORDER BY rowid"):
            self._tables[kind][key] = json.loads(value)
        for product in self.products.values():
            self.keep(product)

    def clear(self) -> None:
        """Deletes everything, on disk too; numbering goes on, so that no id is used twice."""
        for table in (self.products, self.orders, self._by_sku, self._keys):
            table.clear()
        if self._file is not None:
            self._file.execute("DELETE FROM kept WHERE kind <> 'number'")

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def create(self, draft: Json, key: str | None = None) -> Json:
        """A new product; the one made before when the same idempotency key comes again."""
        key = key if self.honour_idempotency_key else None
        if key and (known := self._keys.get(key)) in self.products:
            return self.products[known]
        product_id = self._number("product", "P")
        if key:
            self._keys[key] = product_id
            self._write("key", key, product_id)
        dated = dict.fromkeys(("created_at", "updated_at"), now_text())
        stock = _stock(draft.get("inventory"), None)
        return self._changed("product.updated", {**draft, **dated, "id": product_id, "inventory": stock})

    def replace(self, product_id: str, draft: Json) -> Json:
        """Replaces the whole product; stock stays if the draft has none."""
        current = self.product(product_id)
        kept = {"id": product_id, "created_at": current["created_at"], "updated_at": now_text()}
        stock = _stock(draft.get("inventory"), current.get("inventory"))
        return self._changed("product.updated", {**draft, **kept, "inventory": stock})

    def edit(self, product_id: str, fields: Json) -> Json:
        """Changes some fields, as a person on the marketplace would."""
        current = self.product(product_id)
        kept = {name: value for name, value in fields.items() if name not in CHANGED_BY_US}
        event = "inventory.updated" if set(kept) == {"inventory"} else "product.updated"
        if "inventory" in kept:
            kept["inventory"] = _stock(kept["inventory"], current.get("inventory"))
        return self._changed(event, {**current, **kept, "updated_at": now_text()})

    def set_quantity(self, product_id: str, quantity: int) -> Json:
        """The stock of a product, absolute."""
        return self.edit(product_id, {"inventory": {"quantity": quantity}})

    def remove(self, product_id: str) -> None:
        """Deletes a product."""
        self._changed("product.deleted", self.product(product_id))

    def product(self, product_id: str) -> Json:
        """One product. Raises Refused (404)."""
        return _found(self.products, product_id, "product")

    def find(self, *, sku: str | None, updated_from: Date) -> list[Json]:
        """The products that match, in the order of their creation."""
        found = self.products.values() if sku is None else self.with_sku(sku)
        return [row for row in found if _within(row["updated_at"], updated_from)]

    def with_sku(self, sku: str) -> list[Json]:
        """Every product with this SKU: more than one after a duplicate create."""
        return [self.products[key] for key in self._by_sku.get(sku, ())]

    def place(self, order: Json) -> Json:
        """A sale: numbered, dated, its stock taken from what is on sale (never below zero)."""
        now = now_text()
        order_id = str(order.get("id") or self._number("order", "114-"))
        if order_id in self.orders:
            raise Refused(409, "exists", f"Order {order_id} exists.")
        placed = {"status": "pending", "created_at": now, "updated_at": now, **order, "id": order_id}
        if placed["status"] not in TAKES_NO_STOCK:
            self._move_stock(placed, -1)
        return self._changed("order.created", placed)

    def order(self, order_id: str) -> Json:
        """One order. Raises Refused (404)."""
        return _found(self.orders, order_id, "order")

    def move(self, order_id: str, status: str, tracking: Json | None = None) -> Json:
        """Changes an order's status. Raises Refused (409) for a transition that the contract does not allow."""
        order = self.order(order_id)
        current = order.get("status")
        known = current if current in next_statuses() else "pending"
        if status != known and status not in next_statuses()[known]:
            raise Refused(409, "illegal_status", f"An order that is {current} cannot become {status}.")
        tracked = {} if tracking is None else {"tracking": tracking}
        return self.edit_order(order_id, {"status": status, **tracked})

    def edit_order(self, order_id: str, fields: Json) -> Json:
        """Changes any fields; a cancelled order releases its stock, once."""
        order = self.order(order_id)
        changed = {**order, "updated_at": now_text(), **fields, "id": order_id}
        cancelled = changed.get("status") == "cancelled" and order.get("status") != "cancelled"
        if cancelled and order.get("status") not in TAKES_NO_STOCK:
            self._move_stock(order, +1)
        return self._changed("order.cancelled" if cancelled else "order.updated", changed)

    def find_orders(
        self,
        status: str | None = None,
        date_from: Date = None,
        date_to: Date = None,
        updated_from: Date = None,
    ) -> list[Json]:
        """The orders that match, in the order they were placed."""
        found = [row for row in self.orders.values() if status in (None, row.get("status"))]
        found = [row for row in found if _within(row.get("created_at"), date_from, date_to)]
        return [row for row in found if _within(row.get("updated_at"), updated_from)]

    def _move_stock(self, order: Json, sign: int) -> None:
        for line in order.get("items") or []:
            product, quantity = self.sold(line), line.get("quantity")
            if product is not None and isinstance(quantity, int):
                left = level(product)["quantity"] + sign * quantity
                self.set_quantity(product["id"], max(0, left))

    def sold(self, line: Json) -> Json | None:
        """The product that a line of an order is about, by its id, else its SKU."""
        known = self.products.get(line.get("product_id") or "")
        return known or next(iter(self.with_sku(line.get("sku") or "")), None)

    def _changed(self, event: str, row: Json) -> Json:
        self.apply(event, row)
        kind = "order" if event.startswith("order.") else "product"
        self._write(kind, row["id"], None if event == "product.deleted" else row)
        for listener in self.listeners:
            listener(event, row)
        return row

    def apply(self, event: str, row: Json) -> None:
        """Puts what has changed into its place."""
        if event.startswith("order."):
            self.orders[row["id"]] = row
        elif event == "product.deleted":
            self.drop(row["id"])
        else:
            self.keep(row)

    def keep(self, product: Json) -> None:
        """Puts the product in the place of the one with its id."""
        before = self.products.get(product["id"], product)
        if before.get("sku") != product.get("sku"):
            self._by_sku.get(before.get("sku") or "", {}).pop(product["id"], None)
        self.products[product["id"]] = product
        self._by_sku.setdefault(product.get("sku") or "", {})[product["id"]] = None

    def drop(self, product_id: str) -> None:
        """Removes the product, if it is there."""
        gone = self.products.pop(product_id, {})
        self._by_sku.get(gone.get("sku") or "", {}).pop(product_id, None)

    def _number(self, kind: str, prefix: str) -> str:
        self._numbers[kind] += 1
        self._write("number", kind, self._numbers[kind])
        return f"{'7' if self.number_ids else prefix}{self._numbers[kind]:06d}"

    def _write(self, kind: str, key: str, value: Any) -> None:
        if self._file is None:
            return
        if value is None:
            self._file.execute("DELETE FROM kept WHERE kind = ? AND id = ?", (kind, key))
        else:
            self._file.execute(WRITE, (kind, key, json.dumps(value)))


def checked_number(name: str, value: Any, most: float = 1e9) -> float:
    """The value. Raises ValueError, in a sentence, for what is no number from 0 to `most`."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= most:
        raise ValueError(f"{name} should be a number from 0 to {most:g}")
    return float(value)


def now_text() -> str:
    """Now, in UTC, as the contract writes it."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def moment(text: str) -> datetime:
    """A time of the contract as an aware datetime."""
    return datetime.fromisoformat(text)


def level(product: Json) -> Json:
    """A product's stock as the inventory calls answer it."""
    quantity = (product.get("inventory") or {}).get("quantity", 0)
    return {"product_id": product["id"], "quantity": quantity, "updated_at": product["updated_at"]}


def _found(rows: dict[str, Json], key: str, kind: str) -> Json:
    if key not in rows:
        raise Refused(404, "not_found", f"There is no such {kind}.")
    return rows[key]


def _within(text: Any, start: Date, end: Date = None) -> bool:
    """Whether a row's date lies between these, if any; one that cannot be read does always, a missing one never."""
    if start is None and end is None:
        return True
    try:
        found = moment(text)
    except (TypeError, ValueError):
        return text is not None
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    return (start is None or found >= start) and (end is None or found <= end)


def _stock(given: Json | None, current: Json | None) -> Json:
    return {"quantity": 0, "track_quantity": True, **(current or {}), **(given or {})}

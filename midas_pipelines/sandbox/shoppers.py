"""Shoppers who place, pay and cancel orders at a chosen rate. All of them are plainly invented."""

import asyncio
import random
from contextlib import suppress
from decimal import Decimal

from midas_pipelines.sandbox.state import Json, Refused, State, checked_number

NAMES = (
    *("Testa Sample", "Fakir Example", "Żółta Przykładowa", "Пример Тестов", "例 テスト子", "样本 测试"),
    *("مثال تجريبي", "דוגמה בדיקה", "Δοκιμή Παράδειγμα", "O'Mock-Ünreal"),
)
STREETS = ("1 Nowhere Lane", "22 Sample Street", "333 Placeholder Road", "4 Imaginary Avenue")
CITIES = (
    {"city": "Faketown", "state": "CA", "postal_code": "00000"},
    {"city": "Mockville", "state": "NY", "postal_code": "00001"},
)
CHANNELS = ("amazon", "ebay", "tiktok", "walmart", "shopify")
SHIPPING = Decimal("4.99")
UNPAID = ("unpaid", "on-hold")
OPEN = ("pending", *UNPAID)


class Shoppers:
    """A generator of sales over what the sandbox has in stock."""

    def __init__(self, state: State, seed: int | None) -> None:
        self._state = state
        self._random = random.Random(seed)
        self._task: asyncio.Task[None] | None = None
        self.rate = 0.0

    def set_rate(self, rate: float) -> None:
        """Actions a second from now on; 0 stops them. Called within the event loop. Raises ValueError."""
        self.rate = checked_number("shoppers_rate", rate)
        if self._task is not None:
            self._task.cancel()
        self._task = asyncio.get_running_loop().create_task(self._shop()) if self.rate else None

    def order(self, lines: list[Json] | None = None) -> Json:
        """An order by an invented person, of the lines given or of things in stock."""
        items = [self._line(line) for line in lines] if lines is not None else self._basket()
        prices = [Decimal(str(item.get("price") or 0)) * (item.get("quantity") or 0) for item in items]
        choose, number = self._random.choice, self._random.randrange(1000)
        person = {"email": f"shopper{number}@example.com", "phone": f"+1-555-0100-{number:03d}"}
        return {
            "currency": "USD",
            "total": f"{sum(prices, SHIPPING):.2f}",
            "shipping_cost": f"{SHIPPING:.2f}",
            "sales_channel": choose(CHANNELS),
            "customer": {"name": choose(NAMES), **person},
            "shipping_address": {"line1": choose(STREETS), "line2": None, **choose(CITIES), "country": "US"},
            "items": items,
        }

    async def _shop(self) -> None:
        while True:
            await asyncio.sleep(self._random.expovariate(self.rate))
            self.act()

    def act(self) -> None:
        """One action: mostly a sale, else a payment or a cancellation."""
        open_orders = [key for key, one in self._state.orders.items() if one.get("status") in OPEN]
        drawn = self._random.random()
        if drawn < 0.7 or not open_orders:
            order = self.order()
            if order["items"]:
                self._state.place({**order, "status": self._random.choice(("pending", "pending", "unpaid"))})
            return
        key = self._random.choice(open_orders)
        with suppress(Refused):
            self.pay(key) if drawn < 0.9 else self._state.move(key, "cancelled")

    def pay(self, order_id: str) -> Json:
        """Marks the order as paid: its status becomes pending."""
        order = self._state.order(order_id)
        status = order.get("status")
        if status not in UNPAID:
            raise Refused(409, "illegal_status", f"An order that is {status} waits for no payment.")
        return self._state.edit_order(order_id, {"status": "pending"})

    def _basket(self) -> list[Json]:
        products = self._state.products.values()
        stocked = [one for one in products if (one.get("inventory") or {}).get("quantity", 0) > 0]
        chosen = self._random.sample(stocked, k=min(len(stocked), self._random.choice((1, 1, 1, 2, 3))))
        return [self._line({"product_id": one["id"]}) for one in chosen]

    def _line(self, line: Json) -> Json:
        product = self._state.sold(line) or {}
        named = {name: product.get(name) for name in ("sku", "title", "price")}
        return {**named, "product_id": product.get("id"), "quantity": 1, **line}

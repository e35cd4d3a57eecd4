"""What 4Seller answers and what we send, typed. Money is Decimal, times are aware UTC, unknown fields are kept.

Answers are read leniently (only an `id` is required), drafts are built strictly.
"""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
)

from midas_pipelines.fourseller.status import StatusWord, read_status


def _in_utc(moment: datetime) -> datetime:
    """The moment in UTC; one without an offset is taken for UTC."""
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:  # year 1 or 9999, moved over its edge by the offset
        raise ValueError("is no time anyone could mean") from None


def _written(amount: Decimal) -> str:
    return format(amount, "f")  # never 1E+2: the contract wants plain decimals


def _of_null(value: Any) -> Any:
    return [] if value is None else value


def _a_text(value: Any) -> Any:
    if isinstance(value, str | datetime):
        return value
    raise ValueError("should be an ISO-8601 date and time")  # pydantic would take a number for seconds


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value  # JSON's 5.0 is a 5


LARGEST = 2**31 - 1  # what the contract lets a quantity be

Time = Annotated[datetime, BeforeValidator(_a_text), AfterValidator(_in_utc)]
Whole = Annotated[
    int, BeforeValidator(_whole), Field(strict=True, ge=-LARGEST - 1, le=LARGEST)
]  # strict: "5" or true is no quantity
Count = Annotated[int, BeforeValidator(_whole), Field(strict=True, ge=0, le=LARGEST)]
Money = Annotated[Decimal, Field(allow_inf_nan=False), PlainSerializer(_written, return_type=str)]


class _Answer(BaseModel):
    """Something 4Seller answered: read leniently, unknown fields kept."""

    model_config = ConfigDict(extra="allow", frozen=True)


class _Draft(BaseModel):
    """Something we send: no field that the contract does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Image(_Answer):
    """A picture by address, with the words for who cannot see it."""

    url: str
    alt: str | None = None


class Attributes(_Answer):
    """What an item is like; weight and dimensions as a number or in words."""

    weight: str | float | None = None
    dimensions: str | float | None = None
    color: str | None = None
    size: str | None = None


class Inventory(_Answer):
    """The quantity on sale, as it stands within a product."""

    quantity: Count
    track_quantity: bool | None = True


class Shipping(_Answer):
    """What the parcel weighs and measures."""

    weight: str | float | None = None
    dimensions: str | float | None = None


class ProductDraft(_Draft):
    """A whole product as we send it; fields left None are not sent."""

    title: str = Field(min_length=1, max_length=500)
    sku: str = Field(min_length=1, max_length=100)
    price: Annotated[Money, Field(ge=0, max_digits=16, decimal_places=4)]
    description: str | None = None
    currency: str = "USD"
    category: str | None = None
    brand: str | None = None
    condition: str | None = "new"
    images: list[Image] | None = None
    attributes: Attributes | None = None
    inventory: Inventory | None = None
    shipping: Shipping | None = None
    status: str | None = None
    metadata: dict[str, Any] | None = None

    def body(self) -> bytes:
        """The JSON that goes over the wire."""
        return self.model_dump_json(exclude_none=True).encode()


class Product(_Answer):
    """A product as 4Seller holds it; anything but the id may be missing."""

    id: str = Field(min_length=1)
    created_at: Time | None = None
    updated_at: Time | None = None
    title: str | None = None
    description: str | None = None
    sku: str | None = None
    price: Annotated[Money, Field(ge=0)] | None = None
    currency: str | None = None
    category: str | None = None
    brand: str | None = None
    condition: str | None = None
    images: Annotated[list[Image], BeforeValidator(_of_null)] = Field(default_factory=list)
    attributes: Attributes | None = None
    inventory: Inventory | None = None
    shipping: Shipping | None = None
    status: str | None = None
    metadata: dict[str, Any] | None = None


class InventoryLevel(_Answer):
    """The quantity on sale, as the inventory calls answer it."""

    product_id: str = Field(min_length=1)
    quantity: Count
    updated_at: Time | None = None


class Customer(_Answer):
    """Who bought: personal data, never logged."""

    email: str | None = None
    name: str | None = None
    phone: str | None = None


class Address(_Answer):
    """Where the parcel goes: personal data, never logged."""

    line1: str | None = None
    line2: str | None = None
    city: str | None = None
    state: str | None = None
    postal_code: str | None = None
    country: str | None = None


class Tracking(_Draft):
    """A parcel's carrier, number and page; also what we send when an order ships."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    carrier: str | None = None
    number: str | None = None
    url: str | None = None


class OrderItem(_Answer):
    """One line of an order as it came; the caller decides what a missing or odd quantity means."""

    sku: str | None = None
    product_id: str | None = None
    title: str | None = None
    quantity: Whole | None = None
    price: Money | None = None


class Order(_Answer):
    """A sale. `raw` is the JSON as it came; `state` is the status word looked up in the one table."""

    id: str = Field(min_length=1)
    status: str | None = None
    created_at: Time | None = None
    updated_at: Time | None = None
    currency: str | None = None
    total: Money | None = None
    shipping_cost: Money | None = None
    sales_channel: str | None = None
    customer: Customer | None = None
    shipping_address: Address | None = None
    items: Annotated[list[OrderItem], BeforeValidator(_of_null)] = Field(default_factory=list)
    tracking: Tracking | None = None
    _raw: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def raw(self) -> dict[str, Any]:
        """The JSON as it came: personal data, never logged."""
        return self._raw

    def keeping(self, raw: dict[str, Any]) -> Self:
        """This order, with the JSON it came as."""
        self._raw = raw
        return self

    @property
    def state(self) -> StatusWord:
        """The status as it came, the state it means, and whether the word is known."""
        return read_status(self.status)

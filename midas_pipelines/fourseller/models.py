"""Typed models of what 4Seller answers and what we send. Money is Decimal, times are aware UTC, unknown fields are kept.

Answers are read field by field (`lenient.py`): only an `id` is required; an unreadable value counts as missing, and its field
goes to the list that is the validation context. Drafts of ours, built without a context, are read strictly.
"""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Annotated, Any, TypeVar

import pydantic
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo

from midas_pipelines.fourseller import lenient as reading
from midas_pipelines.fourseller.errors import ContractBroken
from midas_pipelines.fourseller.status import StatusWord, read_status


def lenient(read: Callable[[Any], Any]) -> pydantic.BeforeValidator:
    """A field read by `read`: missing and recorded where unreadable."""

    def field(value: Any, info: ValidationInfo) -> Any:
        try:
            return read(value)
        except (ValueError, ArithmeticError):
            _note(info)
            return None

    return pydantic.BeforeValidator(field)


def lenient_rows(read: Callable[[Any], Any], *, otherwise: Any = None) -> pydantic.BeforeValidator:
    """A list read row by row: an unreadable row is recorded and left out, or becomes `otherwise`."""

    def rows(value: Any, info: ValidationInfo) -> list[Any]:
        found = []
        try:
            for row in reading.read_rows(value):
                try:
                    found.append(read(row))
                except ValueError:
                    _note(info)
                    found.append(otherwise)
        except ValueError:
            _note(info)
        return [row for row in found if row is not None]

    return pydantic.BeforeValidator(rows)


def lenient_texts(*names: str) -> pydantic.PlainValidator:
    """An object about the buyer, of which these fields are read as such texts; its others are kept as they came."""

    def part(value: Any, info: ValidationInfo) -> dict[str, Any] | None:
        try:
            given = reading.read_object(value)
        except ValueError:
            _note(info)
            given = None
        if given is None:
            return None
        found: dict[str, Any] = dict.fromkeys(names) | given
        for name in names:
            try:
                found[name] = reading.read_personal(found[name])
            except ValueError:
                _note(info, name)
                found[name] = None
        return found

    return pydantic.PlainValidator(part)


def _note(info: ValidationInfo, name: str | None = None) -> None:
    if info.context is None:
        raise ValueError("cannot be read")
    info.context.append(name or info.field_name)


def _written(amount: Decimal | None) -> str | None:
    return None if amount is None else format(amount, "f")  # never 1E+2: the contract wants plain decimals


AsText = pydantic.PlainSerializer(_written, return_type=str | None)
Amount = Annotated[Decimal, Field(allow_inf_nan=False), AsText]  # of ours

# What 4Seller answers is taken as it is where that is plain, without a call of ours, and else read by `lenient.py`.
_FIRST = Field(union_mode="left_to_right")
_SHOWN = "[0-9A-MO-TVWYZa-mo-tvwyz]|[Uu][^Nn]|[Uu][Nn][^Dd]|[A-Za-z]{2}$"  # begins like no mask and no word for nothing
_Plain = Annotated[str, pydantic.StringConstraints(strict=True, pattern=f"^({_SHOWN})")]
_Exact = Annotated[str, Field(strict=True)]
_Number = Annotated[int, Field(strict=True, ge=-reading.LARGEST - 1, le=reading.LARGEST)]
_Finite = Annotated[Decimal, Field(allow_inf_nan=False)]

Id = Annotated[_Plain | Annotated[str, lenient(reading.read_id)], _FIRST]
_Address = Annotated[
    str, pydantic.StringConstraints(strict=True, pattern=f"^({_SHOWN})[^\\x00\\x{{FFFD}}]*$")
]
ProductId = Annotated[_Address | Annotated[str, lenient(reading.read_product_id)], _FIRST]
AnyId = Annotated[_Plain | Annotated[str | None, lenient(reading.read_id)] | None, _FIRST]
Sku = Annotated[_Plain | Annotated[str | None, lenient(reading.read_sku)] | None, _FIRST]
Text = Annotated[_Exact | Annotated[str | None, lenient(reading.read_text)] | None, _FIRST]
Said = Annotated[_Plain | Annotated[str | None, lenient(reading.read_said)] | None, _FIRST]
Time = Annotated[datetime | None, lenient(reading.read_time)]
Whole = Annotated[_Number | Annotated[int | None, lenient(reading.read_whole)] | None, _FIRST]
Count = Annotated[int | None, lenient(reading.read_count)]
Flag = Annotated[bool | None, lenient(reading.read_flag)]
Money = Annotated[_Finite | Annotated[Decimal | None, lenient(reading.read_money)] | None, _FIRST, AsText]
Price = Annotated[Decimal | None, lenient(reading.read_price), AsText]

BUYER = ("email", "name", "phone")
ADDRESS = ("line1", "line2", "city", "state", "postal_code", "country")

Row = TypeVar("Row")
Part = Annotated[Row | Annotated[Row | None, lenient(reading.read_object)] | None, _FIRST]
Images = Annotated[list[Row] | Annotated[list[Row], lenient_rows(reading.read_image)], _FIRST]
Buyer = Annotated[dict[str, Any] | None, lenient_texts(*BUYER)]  # personal data, never logged
Place = Annotated[dict[str, Any] | None, lenient_texts(*ADDRESS)]
Lines = Annotated[list[Row] | Annotated[list[Row], lenient_rows(reading.read_object, otherwise={})], _FIRST]


class _Answer(BaseModel):
    """Something 4Seller answered: read leniently, unknown fields kept."""

    model_config = ConfigDict(extra="allow", frozen=True)


class _Draft(BaseModel):
    """Something we send: no field that the contract does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Image(_Answer):
    """A picture by address, with the words for who cannot see it."""

    url: str
    alt: Text = None


class Shipping(_Answer):
    """Weight and dimensions of the package, each as a number or a text."""

    weight: Text = None
    dimensions: Text = None


class Attributes(Shipping):
    """Attributes of an item."""

    color: Text = None
    size: Text = None


class Inventory(_Answer):
    """The quantity on sale, within a product."""

    quantity: Count
    track_quantity: Flag = True


class ProductDraft(_Draft):
    """A whole product as we send it; fields left None are not sent."""

    title: str = Field(min_length=1, max_length=500)
    sku: str = Field(min_length=1, max_length=100)
    price: Annotated[Amount, Field(ge=0, max_digits=16, decimal_places=4)]
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


class _Whole(_Answer):
    """A whole answer, with the received JSON and the names of its unreadable fields."""

    unreadable: pydantic.SkipValidation[tuple[str, ...]] = Field((), exclude=True)  # each once
    raw: Any = Field(None, exclude=True, repr=False)  # as it came: of an order personal data, never logged


class Product(_Whole):
    """A product as 4Seller holds it; anything but the id may be missing."""

    id: ProductId
    created_at: Time = None
    updated_at: Time = None
    title: Text = None
    description: Text = None
    sku: Text = None
    price: Price = None
    currency: Text = None
    category: Text = None
    brand: Text = None
    condition: Text = None
    images: Images[Image] = Field(default_factory=list)
    attributes: Part[Attributes] = None
    inventory: Part[Inventory] = None
    shipping: Part[Shipping] = None
    status: Text = None
    metadata: Part[dict[str, Any]] = None

    @property
    def unseen(self) -> frozenset[str]:
        """The fields that could not be read fully: not seen, which is not the same as empty."""
        models: list[type[_Answer]] = [Image, Attributes, Inventory, Shipping]
        parts = dict(zip(("images", "attributes", "inventory", "shipping"), models, strict=True))
        found = set[str]()
        for name in self.unreadable:  # of a part only the name of the field within is known
            found |= {part for part, model in parts.items() if name in model.model_fields} or {name}
        return frozenset(found)


class InventoryLevel(_Answer):
    """The quantity on sale, as the inventory calls answer it."""

    product_id: Id
    quantity: Annotated[int, lenient(reading.read_count)]
    updated_at: Time = None


class Tracking(_Draft):
    """A shipment's carrier, tracking number and URL; also sent when an order ships."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    carrier: Said = None
    number: Said = None
    url: Said = None


class OrderItem(_Answer):
    """One line of an order as it came; the caller decides what a missing or unusual quantity means."""

    sku: Sku = None
    product_id: AnyId = None
    title: Said = None
    quantity: Whole = None
    price: Money = None


class Order(_Whole):
    """A sale. `raw` is the received JSON; `state` is the status word mapped by the one table."""

    id: Id
    status: Said = None
    created_at: Time = None
    updated_at: Time = None
    currency: Said = None
    total: Money = None
    shipping_cost: Money = None
    sales_channel: Said = None
    customer: Buyer = None
    shipping_address: Place = None
    items: Lines[OrderItem] = Field(default_factory=list)
    tracking: Part[Tracking] = None

    @property
    def state(self) -> StatusWord:
        """The received status, the state it maps to, and whether it is known."""
        return read_status(self.status)


Model = TypeVar("Model", bound=BaseModel)


def _read(model: type[Model], row: Any) -> Model:
    """The row as `model`, each of its fields missing where it cannot be read. Raises ContractBroken naming a required
    field, such as the id."""
    unreadable: list[str] = []
    try:
        found = model.model_validate(row, context=unreadable)
    except pydantic.ValidationError as error:
        place = error.errors(include_url=False, include_context=False, include_input=False)[0]["loc"]
        name = str(place[0]) if place else "(body)"
        reason = f"4Seller's answer breaks the contract in `{name}`: it is missing or cannot be used."
        raise ContractBroken(reason, field=name) from None  # the cause would quote the value
    if isinstance(found, _Whole):
        names = tuple(dict.fromkeys(unreadable))
        found.__dict__.update(unreadable=names, raw=row)  # fields that no message sets
    return found


read_product = partial(_read, Product)
read_order = partial(_read, Order)
read_level = partial(_read, InventoryLevel)

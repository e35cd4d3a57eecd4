"""What a setting's value must be, beyond its type: pure checks, each with the type of field that uses it.

A message is the rest of a sentence that begins with the setting's name; it quotes no secret.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cache
from ipaddress import ip_address, ip_network
from string import Formatter
from typing import Annotated, TypeVar
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo

from midas_pipelines.mail_address import read_sender
from midas_pipelines.workflows import SHADOWED, WORKFLOWS

Text = TypeVar("Text", str, SecretStr)


def comma_separated(text: str) -> list[str]:
    """The names in a text, comma separated."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _must(is_sound: Callable[[str], object], sentence: str) -> AfterValidator:
    """A check with the sentence for a value that is not sound, or cannot be read: the error's own words may quote it."""

    def check(value: Text) -> Text:
        try:
            sound = is_sound(value.get_secret_value() if isinstance(value, SecretStr) else value)
        except (ValueError, KeyError, OSError):  # a folder of time zones, such as Europe, is an OSError
            sound = False
        if not sound:
            raise ValueError(sentence)
        return value

    return AfterValidator(check)


def _require_known(given: Iterable[str], known: Iterable[str], must: str) -> None:
    if unknown := sorted(set(given) - set(known)):
        raise ValueError(f"{must} {', '.join(known)}; it names {', '.join(unknown)}")


PLAIN = ("database", "dagster", "mail")  # the words of MIDAS_PLAIN_CONNECTIONS


def is_this_machine(host: str) -> bool:
    """Whether a host is this machine: no name, a socket, localhost, or a loopback address."""
    if host in ("", "localhost") or host.startswith(("/", "@")):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_unverified(postgres_url: str) -> bool:
    """Whether an address of PostgreSQL names another host without `sslmode=verify-full`. Raises ValueError."""
    parts = urlsplit(postgres_url)
    given = parse_qs(parts.query)
    network = parts.netloc.rpartition("@")[2]  # may name several hosts
    named = [*network.split(","), *(one for key in ("host", "hostaddr") for one in given.get(key, []))]
    hosts = [_without_port(one) for name in named for one in name.split(",")]
    return given.get("sslmode") != ["verify-full"] and not all(map(is_this_machine, hosts))


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host if host.count(":") > 1 else host.partition(":")[0]


@cache
def read_periods(text: str) -> dict[str, int | None]:
    """Days by sales channel, under "" for all others; None for never. Raises ValueError."""
    periods: dict[str, int | None] = {}
    for part in text.split(","):
        found = re.fullmatch(r"(?:([a-z0-9]+)=)?(?:never|([0-9]{1,4}))", part.strip().lower())
        if found is None:
            raise ValueError("no period")
        periods[found[1] or ""] = None if found[2] is None else int(found[2])
    _ = periods[""]
    return periods


def _workflows(value: str) -> str:
    _require_known(comma_separated(value), [one.name for one in WORKFLOWS], "must name none but")
    return value


def _connections(value: list[str]) -> list[str]:
    _require_known(value, PLAIN, "must name none but")
    return value


def _shadowed(value: str) -> str:
    if value.strip().lower() in ("", "false", "0", "no", "off"):
        return ""
    if value.strip().lower() in ("true", "1", "yes", "on"):
        return ",".join(SHADOWED)
    _require_known(comma_separated(value), SHADOWED, "must be true, false or some of")
    return value


def _api_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme == "http" and not is_this_machine(parts.hostname or ""):
        raise ValueError("must begin with https:// (plain http is accepted for this machine alone)")
    if parts.query or parts.fragment:
        raise ValueError("must hold no query or fragment; key and seller id have settings of their own")
    return value.rstrip("/")


def _is_web(text: str) -> bool:
    """Whether it is an address that pages and messages may show: one without a user."""
    parts = urlsplit(text)
    sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    return sound and parts.username is None


def _is_smtp(text: str) -> bool:
    parts = urlsplit(text)
    sound = parts.scheme in ("smtp", "smtps") and bool(parts.hostname) and parts.port != 0
    return sound and not (parts.path.strip("/") or parts.query or parts.fragment)


def _names(value: object) -> object:
    if not isinstance(value, str):
        return value
    names = comma_separated(value)
    if any(name != name.strip("[]\"'") for name in names):  # such a name would match none
        raise ValueError("must be names with commas between, without quotes or brackets")
    return names


def _page(*known: str) -> AfterValidator:
    """A check of a page's address, in which names in braces stand for an item's or an order's values."""

    def is_page(text: str) -> bool:
        parts = [part for part in Formatter().parse(text) if part[1] is not None]
        named = {name if not spec and not turned else "" for _, name, spec, turned in parts}
        return _is_web(text) and named <= set(known)

    braces = ", ".join("{" + name + "}" for name in sorted(known))
    return _must(is_page, f"must be an http(s) address without a user, with none but {braces} in braces")


def _is_place(text: str) -> bool:
    """Whether it is a folder, or an address that pages may show: without a user, a query or a fragment."""
    _, separator, rest = text.partition("://")
    return not separator or (bool(rest.strip("/")) and not {"@", "?", "#"} & set(rest))


def backend_of(text: str) -> str:
    """The backend that a database's address names. Raises ValueError without the address, which may hold a password."""
    try:
        parts = urlsplit(text)
        sound = "://" in text and parts.scheme and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise ValueError("is not a database URL such as sqlite:///midas.db")
    if parts.scheme in ("postgresql", "postgres", "postgresql+psycopg"):
        return "postgresql"
    if parts.scheme not in ("sqlite", "sqlite+pysqlite"):
        raise ValueError("must begin with sqlite:/// or postgresql://")
    if parts.path in ("", "/", "/:memory:"):
        raise ValueError("must name a file: several processes share the database")
    return "sqlite"


def _require_verified(url: SecretStr, info: ValidationInfo, word: str) -> None:
    """Raises ValueError, without the address, where it reaches another host unverified and no word allows that."""
    if is_unverified(url.get_secret_value()) and word not in info.data.get("plain_connections", []):
        raise ValueError(
            "must end with ?sslmode=verify-full, since it names another host (add &sslrootcert=FILE for a certificate "
            f"authority of your own); on a network that is yours alone set MIDAS_PLAIN_CONNECTIONS={word}"
        )


def _database_url(value: SecretStr, info: ValidationInfo) -> SecretStr:
    if backend_of(value.get_secret_value()) == "postgresql":
        _require_verified(value, info, "database")
    return value


def _dagster_postgres_url(value: SecretStr, info: ValidationInfo) -> SecretStr:
    if not value.get_secret_value().startswith(("postgresql://", "postgresql+psycopg2://")):
        raise ValueError("must begin with postgresql:// (Dagster reaches PostgreSQL by psycopg2)")
    _require_verified(value, info, "dagster")
    return value


def _aware(value: datetime, info: ValidationInfo) -> datetime:
    zone = ZoneInfo(info.data.get("timezone", "UTC"))
    return value if value.tzinfo is not None else value.replace(tzinfo=zone).astimezone(UTC)


_HEADER = _must(
    lambda text: text.isascii() and text.isprintable() and " " not in text,
    "is not a key as 4Seller gives them: it holds a space or a character no HTTP header may carry",
)
_WITHOUT_SLASH = AfterValidator(lambda text: text.rstrip("/"))

Minutes = Annotated[int, Field(ge=1, le=60)]
Batch = Annotated[int, Field(ge=1, le=10_000)]
Moment = Annotated[datetime, AfterValidator(_aware)]
TimeZone = Annotated[str, _must(ZoneInfo, "must name a time zone, such as UTC or Europe/Berlin")]
Networks = Annotated[
    str,
    _must(
        lambda text: [ip_network(one) for one in comma_separated(text)] or True,
        "must name addresses or networks, such as 10.0.0.5,192.168.7.0/24",
    ),
    AfterValidator(lambda text: text.replace(" ", "")),
]
Periods = Annotated[
    str, _must(read_periods, "must be days or the word never, as in 30 or 30,ebay=60,shopify=never")
]
Workflows = Annotated[str, AfterValidator(_workflows)]
Shadowed = Annotated[str, AfterValidator(_shadowed)]
Names = Annotated[list[str], BeforeValidator(_names)]
Connections = Annotated[Names, AfterValidator(_connections)]
Sender = Annotated[
    str,
    _must(
        lambda text: not text or read_sender(text),
        "must be a sender such as Midas Technical <orders@example.com>; put a name with a comma in quotes",
    ),
]
Header = Annotated[str, _HEADER]
SecretHeader = Annotated[SecretStr, _HEADER]
PayloadKeys = Annotated[
    SecretStr,
    _must(
        lambda text: all(len(urlsafe_b64decode(key.strip())) == 32 for key in text.split(",")),
        "must be one or more keys (32 url-safe base64-encoded bytes), comma separated",
    ),
]
ApiUrl = Annotated[
    str,
    _must(_is_web, "must be an http(s) URL such as https://api.4seller.com/v1, without a user"),
    AfterValidator(_api_url),
]
SmtpUrl = Annotated[
    SecretStr,
    _must(
        _is_smtp,
        "must be smtp://user:password@host:587 or smtps://user:password@host:465; write a special character of "
        "the password as % and its code, such as %2F for a slash",
    ),
]
DatabaseUrl = Annotated[SecretStr, AfterValidator(_database_url)]
DagsterPostgresUrl = Annotated[SecretStr, AfterValidator(_dagster_postgres_url)]
DagsterAddress = Annotated[
    str,
    _must(
        _is_web, "must be the address of a Dagster webserver, such as http://127.0.0.1:3000, without a user"
    ),
    _WITHOUT_SLASH,
]
WebAddress = Annotated[str, _must(_is_web, "must be an http(s) address without a user")]
Place = Annotated[
    str,
    _must(
        _is_place,
        "must be a folder, or a bucket such as s3://bucket/midas without a user, a query or a fragment",
    ),
]
FolderOrBucket = Annotated[
    str,
    _must(
        lambda text: _is_place(text) and ("://" not in text or text.startswith("s3://")),
        "must be a folder, or a bucket such as s3://bucket/midas without a user",
    ),
]
ItemPage = Annotated[str, _page("sku", "slug", "product_id", "fourseller_id")]
OrderPage = Annotated[str, _page("order", "number", "order_id")]

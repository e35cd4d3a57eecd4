"""What a setting's value must be, beyond its type: pure checks, each with the type of field that uses it.

A message is the rest of a sentence that begins with the setting's name; it quotes no secret.
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode
from datetime import UTC, datetime
from functools import cache, partial
from ipaddress import ip_network
from string import Formatter
from typing import Annotated, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo
from pydantic_settings import NoDecode

from midas_pipelines.mail_address import read_sender
from midas_pipelines.transport_security import PLAIN, is_this_machine, is_unverified
from midas_pipelines.workflows import SHADOWED, WORKFLOWS

Text = TypeVar("Text", str, SecretStr)


def comma_separated(text: str) -> list[str]:
    """The names in a text, comma separated."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _time_zone(value: str) -> str:
    try:
        return ZoneInfo(value).key
    except (KeyError, ValueError, OSError):  # a folder of zones, such as Europe, is an OSError
        raise ValueError("must name a time zone, such as UTC, Europe/Berlin or America/New_York") from None


def _networks(value: str) -> str:
    try:
        return ",".join(str(ip_network(text)) for text in comma_separated(value))
    except ValueError:
        raise ValueError("must name addresses or networks, such as 10.0.0.5,192.168.7.0/24") from None


@cache
def read_periods(text: str) -> dict[str, int | None]:
    """Days by sales channel, under "" for all others; None for never. Raises ValueError."""
    periods: dict[str, int | None] = {}
    for part in text.split(","):
        channel, equals, days = part.strip().lower().rpartition("=")
        if not re.fullmatch(r"never|[0-9]{1,4}", days) or (
            equals and not re.fullmatch(r"[a-z0-9]+", channel)
        ):
            break
        periods[channel] = None if days == "never" else int(days)
    else:
        if "" in periods:
            return periods
    raise ValueError("must be days or the word never, as in 30 or 30,ebay=60,shopify=never")


def _periods(value: str) -> str:
    read_periods(value)
    return value


def _workflows(value: str) -> str:
    known = [workflow.name for workflow in WORKFLOWS]
    if unknown := [name for name in comma_separated(value) if name not in known]:
        raise ValueError(f"must name none but {', '.join(known)}; it names {', '.join(unknown)}")
    return value


def _shadowed(value: str) -> str:
    if value.strip().lower() in ("", "false", "0", "no", "off"):
        return ""
    if value.strip().lower() in ("true", "1", "yes", "on"):
        return ",".join(SHADOWED)
    if unknown := [name for name in comma_separated(value) if name not in SHADOWED]:
        raise ValueError(
            f"must be true, false or some of {', '.join(SHADOWED)}; it names {', '.join(unknown)}"
        )
    return value


def _api_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        well_formed = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        well_formed = False
    if not well_formed:
        raise ValueError("must be an http(s) URL such as https://api.4seller.com/v1")
    if parts.scheme == "http" and not is_this_machine(parts.hostname or ""):
        raise ValueError("must begin with https:// (plain http is accepted for this machine alone)")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(
            "must hold no user, query or fragment; the key and the seller id have settings of their own"
        )
    return value.rstrip("/")


def _header(value: Text) -> Text:
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not (text.isascii() and text.isprintable() and " " not in text):
        raise ValueError(
            "is not a key as 4Seller gives them: it holds a space or a character no HTTP header may carry"
        )
    return value


def _smtp_url(value: SecretStr) -> SecretStr:
    try:
        parts = urlsplit(value.get_secret_value())
        sound = parts.scheme in ("smtp", "smtps") and bool(parts.hostname) and parts.port != 0
        sound = sound and not (parts.path.strip("/") or parts.query or parts.fragment)
    except ValueError:  # whose text may quote the password
        sound = False
    if not sound:
        raise ValueError(
            "must be smtp://user:password@host:587 or smtps://user:password@host:465; write a special character of "
            "the password as % and its code, such as %2F for a slash"
        )
    return value


def _connections(value: list[str]) -> list[str]:
    if unknown := set(value) - set(PLAIN):
        raise ValueError(f"must name none but {', '.join(PLAIN)}; it names {', '.join(sorted(unknown))}")
    return value


def _sender(value: str) -> str:
    try:
        if value:
            read_sender(value)
    except ValueError:
        raise ValueError(
            "must be a sender such as Midas Technical <orders@example.com>; put a name with a comma in quotes"
        ) from None
    return value


def _names(value: object) -> object:
    """Names with commas between, in quotes or not, or a JSON list of them."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith("["):
        try:
            found = json.loads(text)
        except ValueError:
            found = text.strip("[]").split(",")
    else:
        found = text.split(",")
    names = (str(name).strip(" \t\r\n\"'") for name in found)
    return [name for name in names if name]


def _page(value: str, *, known: frozenset[str]) -> str:
    try:
        web = urlsplit(value)
        sound = web.scheme in ("http", "https") and bool(web.hostname)
        parts = [part for part in Formatter().parse(value) if part[1] is not None]
        named = {name if not spec and not turned else "" for _, name, spec, turned in parts}
    except ValueError:
        sound, named = False, set()
    if not sound or not named <= known:
        braces = ", ".join("{" + name + "}" for name in sorted(known))
        raise ValueError(f"must be an http(s) address, with none but {braces} in braces")
    return value


def _folder_or_bucket(value: str) -> str:
    scheme, separator, rest = value.partition("://")
    if separator and (scheme != "s3" or not rest.strip("/")):
        raise ValueError("must be a folder, or a bucket such as s3://bucket/midas")
    return value


def _dagster_address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be the address of a Dagster webserver, such as http://127.0.0.1:3000")
    return value.rstrip("/")


def backend_of(text: str) -> str:
    """The backend that a database's address names. Raises ValueError without the address, which may hold a password."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError("is not a database URL such as sqlite:///midas.db") from None
    if "://" not in text or not parts.scheme:
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


def _payload_keys(value: SecretStr) -> SecretStr:
    for key in value.get_secret_value().split(","):
        try:
            right = len(urlsafe_b64decode(key.strip())) == 32
        except ValueError:
            right = False
        if not right:
            raise ValueError("must be one or more keys (32 url-safe base64-encoded bytes), comma separated")
    return value


def _aware(value: datetime) -> datetime:
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


ITEM_PAGE_NAMES = frozenset({"sku", "slug", "product_id", "fourseller_id"})
ORDER_PAGE_NAMES = frozenset({"order", "number", "order_id"})

Minutes = Annotated[int, Field(ge=1, le=60)]
Batch = Annotated[int, Field(ge=1, le=10_000)]
Moment = Annotated[datetime, AfterValidator(_aware)]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
Networks = Annotated[str, AfterValidator(_networks)]
Periods = Annotated[str, AfterValidator(_periods)]
Workflows = Annotated[str, AfterValidator(_workflows)]
Shadowed = Annotated[str, AfterValidator(_shadowed)]
Names = Annotated[list[str], NoDecode, BeforeValidator(_names)]
Connections = Annotated[Names, AfterValidator(_connections)]
Sender = Annotated[str, AfterValidator(_sender)]
Header = Annotated[str, AfterValidator(_header)]
SecretHeader = Annotated[SecretStr, AfterValidator(_header)]
PayloadKeys = Annotated[SecretStr, AfterValidator(_payload_keys)]
ApiUrl = Annotated[str, AfterValidator(_api_url)]
SmtpUrl = Annotated[SecretStr, AfterValidator(_smtp_url)]
DatabaseUrl = Annotated[SecretStr, AfterValidator(_database_url)]
DagsterPostgresUrl = Annotated[SecretStr, AfterValidator(_dagster_postgres_url)]
DagsterAddress = Annotated[str, AfterValidator(_dagster_address)]
FolderOrBucket = Annotated[str, AfterValidator(_folder_or_bucket)]
ItemPage = Annotated[str, AfterValidator(partial(_page, known=ITEM_PAGE_NAMES))]
OrderPage = Annotated[str, AfterValidator(partial(_page, known=ORDER_PAGE_NAMES))]

"""Everything the environment decides, read once into one typed model.

Nothing below the edge (`defs`, `gateway`, `cli`) reads the environment: it is handed a `Settings`.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from difflib import get_close_matches
from functools import cache
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError
from pydantic_core import PydanticUndefined

from midas_pipelines import setting_checks as checks
from midas_pipelines import setting_groups as groups
from midas_pipelines.errors import ExpectedError
from midas_pipelines.setting_checks import is_this_machine
from midas_pipelines.workflows import writes_of

if TYPE_CHECKING:  # the settings are read before, and often without, the database
    from sqlalchemy.engine import URL


class SettingsError(ExpectedError):
    """A setting is missing or wrong; the message is one sentence for a person, without any secret."""

    exit_code = 2
    advice = "`midas doctor` checks all settings and connections."


class ChannelAccess(BaseModel):
    """What a client needs to speak to 4Seller; made by `Settings.channel`."""

    model_config = ConfigDict(frozen=True)

    url: str
    api_key: SecretStr
    seller_id: str


class DatabaseLimits(BaseModel):
    """How long one role's sessions with the shop's database may wait and work, in seconds; made by `Settings.limits`."""

    model_config = ConfigDict(frozen=True)

    role: Literal["bulk", "gateway", "worker"] = "bulk"
    lock_seconds: float = 0.8
    """How long we wait for a row that the shop holds; under PostgreSQL's deadlock_timeout (1 s), so that of two that
    wait for each other we are the one that tries again."""
    statement_seconds: float = 600.0
    idle_seconds: float = 1.5  # how long a frozen process of ours may hold rows before PostgreSQL ends it
    connect_seconds: int = 5
    pool_seconds: float = 30.0  # how long a thread waits for a connection of the pool
    connections: int = 10  # kept open; as many more when they are needed
    shadow: bool = False  # what is written to the shop's orders and stock is rolled back

    @property
    def busy_seconds(self) -> float:
        """How long a writer waits for another one on SQLite, which has one at a time."""
        return min(30.0, self.statement_seconds)


BULK = DatabaseLimits()
STATEMENT_SECONDS = {"bulk": BULK.statement_seconds, "gateway": 10.0, "worker": 30.0}
"""The longest statement of each role."""


class Settings(
    groups.GatewaySettings,
    groups.DagsterSettings,
    groups.KeepingSettings,
    groups.OrderSettings,
    groups.SafetySettings,
    groups.WorkflowSettings,
    groups.AccessSettings,
):
    """The settings of one installation; pydantic takes the fields of the last group first."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def today(self) -> date:
        """The day that it is in the shop."""
        return self.day_of(datetime.now(UTC))

    def day_of(self, moment: datetime) -> date:
        """The day in the shop, by MIDAS_TIMEZONE, that holds that moment."""
        return moment.astimezone(ZoneInfo(self.timezone)).date()

    def midnight(self, day: date) -> datetime:
        """The moment in UTC with which that day begins in the shop."""
        return datetime.combine(day, time(), ZoneInfo(self.timezone)).astimezone(UTC)

    def snapshots_place(self) -> str:
        """Where the daily snapshots are kept: a folder, or an address s3://..."""
        return self.snapshots or str(self.home() / "snapshots")

    def home(self) -> Path:
        """Where an installation keeps files of its own: DAGSTER_HOME, or the state folder without one."""
        return Path(self.dagster_home or self.state_folder).expanduser()

    def database(self) -> URL:
        """The database's address with its driver named; raises `SettingsError` when it is not set."""
        if self.database_url is None:
            raise SettingsError(
                "MIDAS_DATABASE_URL is not set: give the shop's database, for example "
                "sqlite:///midas.db or postgresql://user:password@host/shop."
            )
        return _parse_database_url(self.database_url.get_secret_value())

    def limits(self, role: Literal["bulk", "gateway", "worker"]) -> DatabaseLimits:
        """How long sessions of that role may wait and work."""
        return DatabaseLimits(
            role=role,
            statement_seconds=STATEMENT_SECONDS[role],
            pool_seconds=5.0 if role == "gateway" else 30.0,
            shadow=self.shadows("order"),
        )

    def erase_after(self, sales_channel: str | None) -> int | None:
        """After how many days the buyer of an order of that channel is erased; None for never."""
        periods = checks.read_periods(self.erase_buyers_after_days)
        words = re.findall(r"[a-z0-9]+", (sales_channel or "").lower())
        return next((periods[word] for word in words if word in periods), periods[""])

    def erase_first_after(self) -> int | None:
        """The fewest days after which the buyer of some sales channel is erased; None where all are kept for ever."""
        periods = checks.read_periods(self.erase_buyers_after_days).values()
        return min((days for days in periods if days is not None), default=None)

    def longest_backup_days(self) -> int:
        """Days after which a backup is removed: an erased buyer is not kept in one for longer than in the shop."""
        first = self.erase_first_after()
        return self.backup_keep_days if first is None else max(1, min(self.backup_keep_days, first))

    def dagster_database(self) -> URL | None:
        """The address of Dagster's history on PostgreSQL; None where it is files in DAGSTER_HOME."""
        if self.dagster_postgres_url is None:
            return None
        address = self.dagster_postgres_url.get_secret_value()
        return _parse_database_url(address.replace("+psycopg2://", "://", 1))

    def queue(self) -> tuple[str, str]:
        """Celery's broker and result store; raises `SettingsError` when one is not set."""
        if self.celery_broker is None or self.celery_backend is None:
            raise SettingsError(
                "MIDAS_EXECUTOR is celery, which needs MIDAS_CELERY_BROKER and MIDAS_CELERY_BACKEND: "
                "for example redis://host/0 for both."
            )
        return self.celery_broker.get_secret_value(), self.celery_backend.get_secret_value()

    @property
    def mail_encrypted(self) -> bool:
        """Whether mail goes only by an encrypted connection: to every other host, unless a word allows it."""
        url = urlsplit(self.smtp_url.get_secret_value() if self.smtp_url is not None else "")
        return "mail" not in self.plain_connections and not is_this_machine(url.hostname or "")

    def is_automatic(self, workflow: str) -> bool:
        """Whether schedules and sensors start that workflow: they are on, it is not paused, and what it needs is set."""
        place, key = bool(self.backup_to), self.backup_identity_file is not None
        unset = {"backup": not place, "restore_drill": not (place and key)}
        return self.schedules and not self.is_paused(workflow) and not unset.get(workflow)

    def is_paused(self, workflow: str) -> bool:
        """Whether that workflow is left off, be the others on or not."""
        return workflow in checks.comma_separated(self.paused)

    def shadows(self, kind: str) -> bool:
        """Whether writes of that kind (listing, quantity, status, order) are kept back."""
        return kind in writes_of(self.shadow)

    def channel(self) -> ChannelAccess:
        """Where 4Seller is and who we are there; raises `SettingsError` naming what is not set."""
        key, seller_id = self.fourseller_api_key, self.fourseller_seller_id
        if key is None or not seller_id:
            unset = "FOURSELLER_API_KEY" if key is None else "FOURSELLER_SELLER_ID"
            raise SettingsError(f"{unset} is not set: copy it from your 4Seller account's API page.")
        return ChannelAccess(url=self.fourseller_api_url, api_key=key, seller_id=seller_id)


def _parse_database_url(text: str) -> URL:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    backend = checks.backend_of(text)
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # which may quote a part of the password: it is not passed on
        raise SettingsError("MIDAS_DATABASE_URL is not a database URL such as sqlite:///midas.db.") from None
    if backend == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    return url.set(drivername="sqlite+pysqlite", database=str(Path(url.database or "").expanduser()))


def load_settings(**given: Any) -> Settings:
    """The settings of this process's environment, those given in place of its own. Raises SettingsError, a sentence
    each."""
    if misspelt := unknown_names(os.environ):
        raise SettingsError(" ".join(misspelt))
    found = {name.upper(): value for name, value in os.environ.items() if value}
    named = {name: found[variable] for name, variable in VARIABLES.items() if variable in found}
    try:
        return Settings.model_validate(named | given)
    except ValidationError as error:
        wrong = [_sentence(item["loc"], item["msg"]) for item in error.errors()]
        raise SettingsError(" ".join(wrong)) from None


OWN_NAMES = (
    "fourseller_api_url",
    "fourseller_api_key",
    "fourseller_seller_id",
    "fourseller_webhook_secret",
    "dagster_home",
)
"""Settings whose variables do not begin with MIDAS_."""
VARIABLES = {name: f"{'' if name in OWN_NAMES else 'MIDAS_'}{name.upper()}" for name in Settings.model_fields}
"""The environment variable of each setting."""
OTHER_NAMES = ("MIDAS_HOST", "MIDAS_VERSION")
"""What `deploy/` reads itself; they reach every service through its file of settings."""
_OTHERS = re.compile(r"MIDAS_TEST_\w+|\w+_SERVICE_(HOST|PORT\w*)|\w+_PORT_\d+_\w+")
"""Names of the tests, and those that Kubernetes makes of the services in a namespace."""


def unknown_names(environment: Mapping[str, str]) -> list[str]:
    """A sentence for each variable that looks like a setting and is none, with the nearest name. Pure."""
    known = list(VARIABLES.values())
    sentences = []
    for given, value in sorted(environment.items()):
        name = given.upper()
        if not (name.startswith(("MIDAS_", "FOURSELLER_")) and value) or name in (*known, *OTHER_NAMES):
            continue
        if _OTHERS.fullmatch(name) or ("://" in value and name.endswith("_PORT")):
            continue
        nearest = get_close_matches(name, known, n=1)
        advice = f"did you mean {nearest[0]}?" if nearest else "`docs/settings.md` lists all."
        sentences.append(f"{given} is not a setting: {advice}")
    return sentences


def _sentence(location: tuple[int | str, ...], message: str) -> str:
    name = str(location[0]) if location else "a setting"
    text = message.removeprefix("Value error, ").rstrip(".").replace("Input should be", "must be", 1)
    if not text.startswith(("must", "is")):
        text = f"is wrong: {text}"
    return f"{VARIABLES.get(name, name)} {text}."


SIGNS = {Ge: "≥", Gt: ">", Le: "≤", Lt: "<"}


def setting_rows(now: Settings | None = None) -> list[dict[str, Any]]:
    """A row for each setting; with the value in force, and where it comes from, where `now` is given."""
    rows = []
    for name, field in Settings.model_fields.items():
        row = {
            "name": VARIABLES[name],
            "default": "" if field.default in (None, PydanticUndefined) else str(field.default),
            "bounds": ", ".join(
                f"{sign} {getattr(bound, kind.__name__.lower())}"
                for bound in field.metadata
                for kind, sign in SIGNS.items()
                if isinstance(bound, kind)
            ),
            "what": _descriptions()[name],
        }
        if now is not None:
            value = getattr(now, name)
            row["now"] = "(set)" if isinstance(value, SecretStr) else str("" if value is None else value)
            row["source"] = "environment" if name in now.model_fields_set else "default"
        rows.append(row)
    return rows


@cache
def _descriptions() -> dict[str, str]:
    """What each setting decides: the docstring below it, read here alone, since that takes longer than the settings."""
    statements = ast.walk(ast.parse(inspect.getsource(groups)))
    bodies = [model.body for model in statements if isinstance(model, ast.ClassDef)]
    return {
        ast.unparse(field.target): " ".join(ast.literal_eval(below.value).split())
        for field, below in chain.from_iterable(map(pairwise, bodies))
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr)
    }

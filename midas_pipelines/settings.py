"""Everything the environment decides, read once into one typed model.

Nothing below the edge (`defs`, `gateway`, `cli`) reads the environment: it is handed a `Settings`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from midas_pipelines import setting_checks as checks
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
    idle_seconds: float = (
        1.5  # how long a frozen process of ours may hold rows before PostgreSQL ends its transaction
    )
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


class Settings(BaseModel):
    """The settings of one installation; the docstring below each is its line in `docs/settings.md`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fourseller_api_url: checks.ApiUrl = "https://api.4seller.com/v1"
    """Where 4Seller's API is; plain http is accepted for this machine alone."""
    fourseller_api_key: checks.SecretHeader | None = None
    """The key of your 4Seller account; needed by every sync."""
    fourseller_seller_id: checks.Header | None = None
    """The seller id of your 4Seller account; needed by every sync."""
    plain_connections: checks.Connections = []
    """Connections to other hosts that may go without TLS whose certificate is verified: database, dagster, mail;
    comma separated. Only for a network that is yours alone."""
    database_url: checks.DatabaseUrl | None = None
    """The shop's database: sqlite:///shop.db or postgresql://user:password@host/shop?sslmode=verify-full; always
    needed."""

    products_interval: checks.Minutes = 5
    """Minutes between two syncs of changed products."""
    inventory_interval: checks.Minutes = 1
    """Minutes between two pushes of changed quantities."""
    orders_interval: checks.Minutes = 2
    """Minutes between two imports of new sales."""
    status_interval: checks.Minutes = 5
    """Minutes between two syncs of order statuses."""
    stock_watch_interval: checks.Minutes = 15
    """Minutes between two looks for low stock."""
    performance_interval: checks.Minutes = 15
    """Minutes between two looks at how well syncs run."""
    report_hour: int = Field(7, ge=0, le=23)
    """Hour of the daily report to staff, with the capacity plan."""
    reconcile_interval: int = Field(60, ge=1, le=1440)
    """Minutes between two read-backs of everything 4Seller shows."""
    timezone: checks.TimeZone = "UTC"
    """Where hours and days are those of the shop, such as Europe/Berlin: of daily workflows, orders, snapshots and reports."""
    full_sync_hour: int = Field(2, ge=0, le=23)
    """Hour of the nightly full sync."""
    schedules: bool = False
    """Schedules and sensors start switched on; `midas dev` sets it."""
    paused: checks.Workflows = ""
    """Workflows that do not run automatically, comma separated, such as order_import; `midas workflows` names
    all."""
    shards: int = Field(16, ge=1, le=1000)
    """Parts that a full sync may be shared out in."""
    shards_at_once: int = Field(4, ge=1, le=1000)
    """Runs of product syncs at once."""
    spread_full_sync: bool = False
    """The nightly full sync is one run for each shard, for many workers."""
    longest_run_minutes: int = Field(120, ge=1, le=1440)
    """A run that takes longer is ended and tried again."""
    keep_runs_days: int = Field(90, ge=1, le=3650)
    """How long Dagster remembers a run."""
    keep_webhooks_days: int = Field(30, ge=1, le=3650)
    """How long a webhook that is done with is kept; one that is not, for ever."""
    keep_audit_days: int = Field(400, ge=365, le=3650)
    """How long the audit log is kept; never under 365 days."""
    keep_sync_logs_days: int = Field(90, ge=31, le=3650)
    """How long the log of the syncs is kept; the capacity plan reads 30 days of it."""
    keep_api_errors_days: int = Field(90, ge=7, le=3650)
    """How long a failed call is kept."""
    keep_order_logs_days: int = Field(730, ge=90, le=3650)
    """How long the steps of an order are kept; what a person decided about it stays."""
    keep_alerts_days: int = Field(90, ge=7, le=3650)
    """How long an alert is kept after it is over."""
    actor: str | None = Field(None, max_length=80, pattern=r"^[\w.@:+-]+$")
    """Who runs the commands, as the audit log names them; unset, the user and host of the operating system."""
    erase_buyers_after_days: checks.Periods = "30"
    """Days after the delivery (or the end of the order) at which its buyer is erased; others for some sales
    channels, as in 30,ebay=60,shopify=never. Only the word never keeps buyers for ever."""
    keep_snapshots_days: int = Field(400, ge=1, le=3650)
    """How long the daily snapshots of shop and channel are kept, for `midas explain --at` and `midas diff`."""
    snapshots: checks.FolderOrBucket | None = None
    """Where those are kept: a folder, or s3://bucket/prefix with the access that AWS's own variables name;
    unset, the folder `snapshots` in DAGSTER_HOME, or in MIDAS_STATE_FOLDER without one."""
    stale_work_seconds: int = Field(60, ge=10, le=3600)
    """What the gateway has left undone for so long, Dagster takes up."""
    executor: Literal["in_process", "multiprocess", "celery"] = "in_process"
    """Where the steps of a run are executed; with celery whole runs are, by `midas step-worker`."""
    celery_broker: SecretStr | None = None
    """For the celery executor: redis://... or sqla+postgresql+psycopg://..."""
    celery_backend: SecretStr | None = None
    """Where celery keeps results: redis://... or db+postgresql+psycopg://..."""
    dagster_postgres_url: checks.DagsterPostgresUrl | None = None
    """The address postgresql://... of Dagster's own history; unset, SQLite files in DAGSTER_HOME."""
    owner: str = Field("team:marketplaces", pattern=r"^(team:[\w-]+|[\w.+-]+@[\w-]+[.][\w.-]+)$")
    """Who owns the assets and jobs in Dagster: an e-mail address, or a team such as team:marketplaces."""
    code_url: checks.WebAddress | None = None
    """Where the code can be read, such as https://host/owner/name/blob/main."""

    shop_page: checks.ItemPage | None = None
    """An item's page in the shop, for links in the UI, such as https://shop.example/products/{slug}; knows
    {slug}, {sku} and {product_id}."""
    fourseller_page: checks.ItemPage | None = None
    """An item's page at 4Seller; knows {fourseller_id} and {sku}."""
    shop_order_page: checks.OrderPage | None = None
    """An order's page in the shop's back office; knows {order_id}, {number} and {order}."""
    fourseller_order_page: checks.OrderPage | None = None
    """An order's page at 4Seller; knows {order}, the marketplace's number."""

    in_flight: int = Field(50, ge=1, le=500)
    """Requests to 4Seller under way at once, per process."""
    rate_limit: float | None = Field(None, gt=0, le=10_000)
    """Requests to 4Seller a second, all processes together; unset, it adapts."""
    products_batch: checks.Batch = 500
    """Items that a product sync claims at once; never more than three times MIDAS_IN_FLIGHT."""
    inventory_batch: checks.Batch = 500
    """Items that an inventory push claims at once; never more than three times MIDAS_IN_FLIGHT."""
    orders_batch: checks.Batch = 2000
    """Orders imported in one transaction, in whole pages of 4Seller (100); the shop waits for their stock
    meanwhile."""
    status_batch: checks.Batch = 500
    """Orders looked at together by the sync of statuses."""
    lease_seconds: int = Field(120, ge=60, le=3600)
    """How long a claim on an item holds."""
    most_attempts: int = Field(8, ge=1, le=100)
    """Runs an item may fail in before it is quarantined."""
    failures_in_a_row: int = Field(20, ge=3, le=1000)
    """After these 4Seller counts as down."""
    title_limit: int = Field(255, ge=1, le=1000)
    """Longest title 4Seller takes, in characters."""
    orders_overlap_minutes: int = Field(15, ge=0, le=1440)
    """How far before the watermark polling reads."""
    orders_look_back_hours: int = Field(48, ge=0, le=8760)
    """How far back the poll reads once an hour; 0 for never."""
    orders_since: checks.Moment | None = None
    """Orders created before this are not imported."""
    orders_age_limit_days: int = Field(14, ge=1, le=365)
    """Days after which an order that is still open fails a check."""
    orders_checked_days: int = Field(7, ge=1, le=3650)
    """The order checks look at the orders that changed in so many days; the drill of the backups looks at all."""
    smtp_url: checks.SmtpUrl | None = None
    """Where mail to customers goes: smtp://user:password@host:587 (by STARTTLS) or smtps://...:465."""
    mail_from: checks.Sender = ""
    """The sender, as in Midas Technical <orders@example.com>."""
    mail_shop_name: str = "our shop"
    """The shop's name in messages to customers."""
    mail_templates: Path | None = None
    """A folder with templates that replace ours."""
    mail_channels_on: checks.Names = []
    """Sales channels whose customers are written to, relay address or not; comma separated."""
    mail_channels_off: checks.Names = []
    """Sales channels whose customers are never written to; comma separated."""
    mail_newest_hours: int = Field(48, ge=1, le=8760)
    """An order placed longer ago is not confirmed any more."""
    payload_key: checks.PayloadKeys | None = None
    """Seals what marketplaces sent: 32 bytes as url-safe base64, or several such keys, newest first, comma
    separated. Unset, MIDAS_KEY_COMMAND prints them, or they are in a file."""
    key_command: str | None = None
    """A command that prints the payload keys, such as one of your key management."""
    payload_key_file: Path | None = None
    """The file of the payload keys; unset, payload-key in DAGSTER_HOME, or in MIDAS_STATE_FOLDER without
    one. It is made where it is missing, for its owner alone."""
    state_folder: Path = Path("~/.local/state/midas")
    """Where an installation without DAGSTER_HOME keeps what must not be lost."""
    shadow: checks.Shadowed = ""
    """true: everything runs, and nothing is written to 4Seller or to the shop's orders and stock; or names of
    workflows, comma separated: what one of them writes is kept back, whoever writes it (docs/safety.md)."""
    canary_items: int = Field(100, ge=1)
    """Listings that a sync may change at once; more go in waves of 1 %, 10 % and all, each read back."""
    canary_price_percent: int = Field(50, ge=1, le=1000)
    """A new price that differs by more goes in waves, where there are MIDAS_BRAKE_ITEMS of them."""
    keep_writes_days: int = Field(30, ge=1, le=3650)
    """How long the values before each write are kept, for `midas undo`."""
    contract_sample: int = Field(20, ge=0, le=10_000)
    """Of so many answers of 4Seller one is compared with the contract; 0 for none."""
    brake_percent: int = Field(20, ge=0, le=100)
    """Share of the listed items that a sync may zero, remove, reprice or list again unasked."""
    brake_items: int = Field(10, ge=1)
    """Up to one fewer than this many never engage the brake."""
    low_stock: int = Field(5, ge=0)
    """Units on hand at which an item without a rule is low."""
    cover_days: int = Field(0, ge=0, le=365)
    """Days that stock should last; 0 does not ask."""
    read_back_grace_seconds: float = Field(10.0, ge=0, le=3600)
    """How long 4Seller may show an old quantity after it took a new one."""
    list_lag_seconds: float = Field(60.0, ge=0, le=3600)
    """How long 4Seller's lists and look-ups may lag behind a write; a create whose answer was lost is sent
    again no sooner."""
    fourseller_webhook_secret: SecretStr | None = None
    """The secret whsec_…; while it is changed two of them, newest first, comma separated."""
    dagster_home: str | None = None
    """Dagster's folder; the gateway reports to the Dagster instance there."""
    dagster_url: checks.DagsterAddress | None = None
    """A Dagster webserver, such as http://127.0.0.1:3000; big syncs are launched there."""
    backup_to: checks.Place | None = None
    """Where backups are written: a folder, or a bucket such as s3://backups/midas (needs the extra s3)."""
    backup_s3_url: checks.WebAddress | None = None
    """The address of an S3 server other than Amazon's."""
    backup_recipients: str = ""
    """The age keys that backups are encrypted to, such as age1...; comma separated."""
    backup_identity_file: Path | None = None
    """The file with the secret age key; only where backups are verified, restored and drilled."""
    backup_interval: int = Field(60, ge=5, le=1440)
    """Minutes between two backups."""
    backup_keep_days: int = Field(28, ge=1, le=365)
    """Days after which a backup is removed; never longer than MIDAS_ERASE_BUYERS_AFTER_DAYS."""
    drill_hour: int = Field(4, ge=0, le=23)
    """Hour of the daily restore drill."""
    incident_contact: str = ""
    """Who is called in an incident: a role with a phone number or an address; `midas compliance` asks for one."""
    key_days: int = Field(365, ge=1, le=365)
    """Days for which a new key of the gateway is valid; staff is alerted 30 days before its end."""
    gateway_host: str = "127.0.0.1"
    """The address that the gateway listens on."""
    gateway_port: int = Field(8700, ge=0, le=65_535)
    """Its port; 0 takes a free one."""
    gateway_rate: float = Field(50.0, gt=0)
    """Calls a second that one key, or one address without a key, may make."""
    gateway_proxies: checks.Networks = ""
    """Addresses or networks of proxies in front of the gateway, whose X-Forwarded-For is believed; comma
    separated."""
    console_url: checks.WebAddress | None = None
    """Where people reach the console, such as https://midas.example; messages to staff link there. Unset, they name
    commands."""
    console_hours: float = Field(12.0, gt=0, le=168)
    """Hours after which a person signs in to the console again."""
    console_idle_minutes: int = Field(60, ge=1, le=1440)
    """Minutes without a click after which a person is signed out."""
    console_secure: bool = False
    """Its cookies are sent over https alone, also where a proxy hides that the person uses https."""
    oidc_issuer: str | None = Field(None, pattern=r"^(https://|http://(127\.0\.0\.1|localhost|\[::1\])[:/])")
    """Where people sign in by OpenID Connect, exactly as the provider spells it, such as https://id.example."""
    oidc_client_id: str | None = None
    """The console's id at that provider; its redirect address there is the console's with /sign-in/oidc/callback."""
    oidc_client_secret: SecretStr | None = None
    """The console's secret at that provider, where it has one."""
    oidc_role_claim: str = "roles"
    """The claim of the ID token that holds a person's roles or groups."""
    oidc_viewer_values: str = "midas-viewer"
    """Its values that make a viewer, comma separated."""
    oidc_operator_values: str = "midas-operator"
    """Its values that make an operator, comma separated."""
    oidc_admin_values: str = "midas-admin"
    """Its values that make an admin, comma separated."""
    oidc_recheck_minutes: int = Field(15, ge=1, le=1440)
    """Minutes after which the provider is asked again, unseen by the person, so that a role taken away there ends here."""
    notify_urls: SecretStr | None = None
    """Where alerts are sent: apprise addresses, separated by white space."""

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

    def longest_backup_days(self) -> int:
        """Days after which a backup is removed: an erased buyer is not kept in one for longer than in the shop."""
        periods = [
            days for days in checks.read_periods(self.erase_buyers_after_days).values() if days is not None
        ]
        return max(1, min([self.backup_keep_days, *periods]))

    def dagster_database(self) -> URL | None:
        """The address of Dagster's history on PostgreSQL; None where it is files in DAGSTER_HOME."""
        if self.dagster_postgres_url is None:
            return None
        address = self.dagster_postgres_url.get_secret_value().replace("+psycopg2://", "://", 1)
        return _parse_database_url(address)

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
        if self.fourseller_api_key is None:
            raise SettingsError(
                "FOURSELLER_API_KEY is not set: copy it from your 4Seller account's API page."
            )
        if not self.fourseller_seller_id:
            raise SettingsError(
                "FOURSELLER_SELLER_ID is not set: copy it from your 4Seller account's API page."
            )
        return ChannelAccess(
            url=self.fourseller_api_url, api_key=self.fourseller_api_key, seller_id=self.fourseller_seller_id
        )


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
    """The settings of this process's environment, those given in place of its own.

    Raises `SettingsError` with a sentence for each wrong one.
    """
    if misspelt := unknown_names(os.environ):
        raise SettingsError(" ".join(misspelt))
    found = {name.upper(): value for name, value in os.environ.items() if value}
    named = {name: found[variable] for name, variable in VARIABLES.items() if variable in found}
    try:
        return Settings.model_validate(named | given)
    except ValidationError as error:
        raise SettingsError(
            " ".join(_sentence(item["loc"], item["msg"]) for item in error.errors())
        ) from None


OWN_NAMES = (
    "fourseller_api_url",
    "fourseller_api_key",
    "fourseller_seller_id",
    "fourseller_webhook_secret",
    "dagster_home",
)
"""Settings whose variables do not begin with MIDAS_."""
VARIABLES = {
    name: name.upper() if name in OWN_NAMES else f"MIDAS_{name.upper()}" for name in Settings.model_fields
}
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

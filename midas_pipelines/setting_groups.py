"""The settings by subject: each field with its default and bounds; the docstring below it is its line in `docs/settings.md`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, SecretStr

from midas_pipelines import setting_checks as checks


class AccessSettings(BaseModel):
    """The 4Seller account, the databases, and how fast 4Seller may be called."""

    fourseller_api_url: checks.ApiUrl = "https://api.4seller.com/v1"
    """Where 4Seller's API is; plain http is accepted for this machine alone."""
    fourseller_api_key: checks.SecretHeader | None = None
    """The key of your 4Seller account; needed by every sync."""
    fourseller_seller_id: checks.Header | None = None
    """The seller id of your 4Seller account; needed by every sync."""
    fourseller_webhook_secret: SecretStr | None = None
    """The secret whsec_…; while it is changed two of them, newest first, comma separated."""
    plain_connections: checks.Connections = []
    """Connections to other hosts that may go without TLS whose certificate is verified: database, dagster, mail;
    comma separated. Only for a network that is yours alone."""
    database_url: checks.DatabaseUrl | None = None
    """The shop's database: sqlite:///shop.db or postgresql://user:password@host/shop?sslmode=verify-full; always
    needed."""
    dagster_postgres_url: checks.DagsterPostgresUrl | None = None
    """The address postgresql://... of Dagster's own history; unset, SQLite files in DAGSTER_HOME."""
    in_flight: int = Field(50, ge=1, le=500)
    """Requests to 4Seller under way at once, per process."""
    rate_limit: float | None = Field(None, gt=0, le=10_000)
    """Requests to 4Seller a second, all processes together; unset, it adapts."""
    failures_in_a_row: int = Field(20, ge=3, le=1000)
    """After these 4Seller counts as down."""
    title_limit: int = Field(255, ge=1, le=1000)
    """Longest title 4Seller takes, in characters."""
    read_back_grace_seconds: float = Field(10.0, ge=0, le=3600)
    """How long 4Seller may show an old quantity after it took a new one."""
    list_lag_seconds: float = Field(60.0, ge=0, le=3600)
    """How long 4Seller's lists and look-ups may lag behind a write; a create whose answer was lost is sent
    again no sooner."""
    contract_sample: int = Field(20, ge=0, le=10_000)
    """One in this many answers of 4Seller is compared with the contract; 0 for none."""


class WorkflowSettings(BaseModel):
    """When workflows run, and how much they take at once."""

    timezone: checks.TimeZone = "UTC"
    """Where hours and days are those of the shop, such as Europe/Berlin: of daily workflows, orders, snapshots and reports."""
    schedules: bool = False
    """Schedules and sensors start switched on; `midas dev` sets it."""
    paused: checks.Workflows = ""
    """Workflows that do not run automatically, comma separated, such as order_import; `midas workflows` names
    all."""
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
    reconcile_interval: int = Field(60, ge=1, le=1440)
    """Minutes between two read-backs of everything 4Seller shows."""
    report_hour: int = Field(7, ge=0, le=23)
    """Hour of the daily report to staff, with the capacity plan."""
    full_sync_hour: int = Field(2, ge=0, le=23)
    """Hour of the nightly full sync."""
    backup_interval: int = Field(60, ge=5, le=1440)
    """Minutes between two backups."""
    drill_hour: int = Field(4, ge=0, le=23)
    """Hour of the daily restore drill."""
    shards: int = Field(16, ge=1, le=1000)
    """Parts that a full sync may be shared out in."""
    shards_at_once: int = Field(4, ge=1, le=1000)
    """Runs of product syncs at once."""
    spread_full_sync: bool = False
    """The nightly full sync is one run for each shard, for many workers."""
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
    stale_work_seconds: int = Field(60, ge=10, le=3600)
    """What the gateway has left undone for so long, Dagster takes up."""
    longest_run_minutes: int = Field(120, ge=1, le=1440)
    """A run that takes longer is ended and tried again."""


class SafetySettings(BaseModel):
    """What a sync may change without a person, and what is reported to one."""

    shadow: checks.Shadowed = ""
    """true: everything runs, and nothing is written to 4Seller or to the shop's orders and stock; or names of
    workflows, comma separated: what one of them writes is kept back, also when another process writes it (docs/safety.md)."""
    canary_items: int = Field(100, ge=1)
    """Listings that a sync may change at once; more go in waves of 1 %, 10 % and all, each read back."""
    canary_price_percent: int = Field(50, ge=1, le=1000)
    """A new price that differs by more goes in waves, where there are MIDAS_BRAKE_ITEMS of them."""
    brake_percent: int = Field(20, ge=0, le=100)
    """Share of the listed items that a sync may zero, remove, reprice or list again unasked."""
    brake_items: int = Field(10, ge=1)
    """Up to one fewer than this many never engage the brake."""
    low_stock: int = Field(5, ge=0)
    """Units on hand at which an item without a rule is low."""
    cover_days: int = Field(0, ge=0, le=365)
    """Days that stock should last; 0 does not ask."""
    notify_urls: SecretStr | None = None
    """Where alerts are sent: apprise addresses, separated by white space."""
    actor: str | None = Field(None, max_length=80, pattern=r"^[\w.@:+-]+$")
    """Who runs the commands, as the audit log names them; unset, the user and host of the operating system."""
    incident_contact: str = ""
    """Who is called in an incident: a role with a phone number or an address; `midas compliance` asks for one."""


class OrderSettings(BaseModel):
    """Which orders are imported and checked, and what their buyers are written."""

    orders_since: checks.Moment | None = None
    """Orders created before this are not imported."""
    orders_overlap_minutes: int = Field(15, ge=0, le=1440)
    """How far before the watermark polling reads."""
    orders_look_back_hours: int = Field(48, ge=0, le=8760)
    """How far back the poll reads once an hour; 0 for never."""
    orders_age_limit_days: int = Field(14, ge=1, le=365)
    """Days after which an order that is still open fails a check."""
    orders_checked_days: int = Field(7, ge=1, le=3650)
    """The checks of orders and of the ledger look at what changed in this many days; the drill of the backups at all."""
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


class KeepingSettings(BaseModel):
    """Where data is kept, sealed with which key, and for how long."""

    dagster_home: str | None = None
    """Dagster's folder; the gateway reports to the Dagster instance there."""
    state_folder: Path = Path("~/.local/state/midas")
    """Where an installation without DAGSTER_HOME keeps what must not be lost."""
    snapshots: checks.FolderOrBucket | None = None
    """Where those are kept: a folder, or s3://bucket/prefix with the access that AWS's own variables name;
    unset, the folder `snapshots` in DAGSTER_HOME, or in MIDAS_STATE_FOLDER without one."""
    payload_key: checks.PayloadKeys | None = None
    """Seals what marketplaces sent: 32 bytes as url-safe base64, or several such keys, newest first, comma
    separated. Unset, MIDAS_KEY_COMMAND prints them, or they are in a file."""
    key_command: str | None = None
    """A command that prints the payload keys, such as one of your key management."""
    payload_key_file: Path | None = None
    """The file of the payload keys; unset, payload-key in DAGSTER_HOME, or in MIDAS_STATE_FOLDER without
    one. It is made where it is missing, for its owner alone."""
    erase_buyers_after_days: checks.Periods = "30"
    """Days after the delivery (or the end of the order) at which its buyer is erased; others for some sales
    channels, as in 30,ebay=60,shopify=never. Only the word never keeps buyers for ever."""
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
    keep_snapshots_days: int = Field(400, ge=1, le=3650)
    """How long the daily snapshots of shop and channel are kept, for `midas explain --at` and `midas diff`."""
    keep_writes_days: int = Field(30, ge=1, le=3650)
    """How long the values before each write are kept, for `midas undo`."""
    backup_to: checks.Place | None = None
    """Where backups are written: a folder, or a bucket such as s3://backups/midas (needs the extra s3)."""
    backup_s3_url: checks.WebAddress | None = None
    """The address of an S3 server other than Amazon's."""
    backup_recipients: str = ""
    """The age keys that backups are encrypted to, such as age1...; comma separated."""
    backup_identity_file: Path | None = None
    """The file with the secret age key; only where backups are verified, restored and drilled."""
    backup_keep_days: int = Field(28, ge=1, le=365)
    """Days after which a backup is removed; never longer than MIDAS_ERASE_BUYERS_AFTER_DAYS."""


class DagsterSettings(BaseModel):
    """Dagster: where runs are executed and shown, and the pages that it links to."""

    executor: Literal["in_process", "multiprocess", "celery"] = "in_process"
    """Where the steps of a run are executed; with celery whole runs are, by `midas step-worker`."""
    celery_broker: SecretStr | None = None
    """For the celery executor: redis://... or sqla+postgresql+psycopg://..."""
    celery_backend: SecretStr | None = None
    """Where celery keeps results: redis://... or db+postgresql+psycopg://..."""
    dagster_url: checks.DagsterAddress | None = None
    """A Dagster webserver, such as http://127.0.0.1:3000; big syncs are launched there."""
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


class GatewaySettings(BaseModel):
    """The gateway, its console, and who signs in there."""

    gateway_host: str = "127.0.0.1"
    """The address that the gateway listens on."""
    gateway_port: int = Field(8700, ge=0, le=65_535)
    """Its port; 0 takes a free one."""
    gateway_rate: float = Field(50.0, gt=0)
    """Calls a second that one key, or one address without a key, may make."""
    gateway_proxies: checks.Networks = ""
    """Addresses or networks of proxies in front of the gateway, whose X-Forwarded-For is believed; comma
    separated."""
    key_days: int = Field(365, ge=1, le=365)
    """Days for which a new key of the gateway is valid; staff is alerted 30 days before its end."""
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

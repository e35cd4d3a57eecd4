"""The gateway's tables: every webhook accepted, API keys, and the audit log."""

from __future__ import annotations

import sqlalchemy as sa

from midas_pipelines.store.schema.tables import BigId, numbered, partial_index, store
from midas_pipelines.storefront.types import Json, UtcDateTime, Words, utc_now

marketplace_webhooks = numbered(
    "marketplace_webhooks",
    sa.Column("webhook_id", sa.String(200), nullable=False, unique=True),  # the sender's; one id, one effect
    sa.Column("type", sa.String(100), nullable=False),
    sa.Column("subject", sa.String(220)),  # order:ID or product:ID; one event of it after the other
    sa.Column("payload", sa.Text, nullable=False),  # sealed by the vault
    sa.Column("received_at", UtcDateTime, nullable=False, server_default=utc_now()),
    sa.Column("claimed_by", sa.String(100)),
    sa.Column("claimed_until", UtcDateTime),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("next_attempt_at", UtcDateTime),
    sa.Column("processed_at", UtcDateTime),
    sa.Column("outcome", sa.String(20)),  # applied|superseded|quarantined
    sa.Column("reason", Words()),
    sa.CheckConstraint("processed_at IS NULL OR outcome IS NOT NULL", name="marketplace_webhooks_ends"),
)
partial_index(marketplace_webhooks, "marketplace_webhooks_pending", "id", "processed_at IS NULL")
sa.Index("marketplace_webhooks_subject", marketplace_webhooks.c.subject)
partial_index(marketplace_webhooks, "marketplace_webhooks_set_aside", "id", "outcome = 'quarantined'")

gateway_keys = numbered(
    "gateway_keys",
    sa.Column("key_id", sa.String(20), nullable=False, unique=True),  # the readable part of the key
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("role", sa.String(20), nullable=False),  # viewer|operator|admin
    sa.Column("secret_hash", sa.String(64), nullable=False),  # SHA-256; the secret has 256 bits of its own
    sa.Column("created_at", UtcDateTime, nullable=False, server_default=utc_now()),
    sa.Column("valid_until", UtcDateTime),  # its expiry, or the end of a revoked or replaced one
    sa.Column("revoked_at", UtcDateTime),  # when a person revoked or replaced it
    sa.Column("last_used_at", UtcDateTime),  # to the hour
)

# Append-only: a trigger refuses to change or delete a row, and each row carries the hash of the one before.
gateway_audit = numbered(
    "gateway_audit",
    sa.Column("at", UtcDateTime, nullable=False, server_default=utc_now()),
    sa.Column("event", sa.String(10), nullable=False),  # asked: before anything is done; answered; refused
    sa.Column("actor", sa.String(120), nullable=False),  # key id and name, or the person at the command line
    sa.Column("role", sa.String(20)),
    sa.Column("action", sa.String(100), nullable=False),
    sa.Column("target", sa.String(250)),
    sa.Column("detail", Json),
    sa.Column("status", sa.Integer),
    sa.Column("remote", sa.String(64)),
    sa.Column("request_id", sa.String(64)),
    sa.Column("previous", sa.String(64), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
)
sa.Index("gateway_audit_when", gateway_audit.c.at)

# One row: the two ends of the chain of hashes. Each writer of the audit log locks it.
gateway_audit_head = sa.Table(
    "gateway_audit_head",
    store,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),  # always 1
    sa.Column("start_hash", sa.String(64), nullable=False),  # of the last row that retention deleted
    sa.Column("last_id", BigId, nullable=False),
    sa.Column("last_hash", sa.String(64), nullable=False),
)

# Wrong keys of the last hour, by key id and by address: after ten of them the subject is locked out, in every process.
gateway_lockouts = sa.Table(
    "gateway_lockouts",
    store,
    sa.Column("subject", sa.String(100), primary_key=True),  # such as `key ID` or `address 192.0.2.1`
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("failed_at", UtcDateTime, nullable=False),
    sa.Column("locked_until", UtcDateTime),
)

# Who is signed in to the console, one-time links into it, and sign-ins by OpenID Connect that are under way. Holds the
# name under which a person signed in; nothing else about a person.
console_sessions = numbered(
    "midas_console_sessions",
    sa.Column("token_hash", sa.String(64), nullable=False, unique=True),  # SHA-256; the cookie has the token
    sa.Column("kind", sa.String(10), nullable=False),  # signed_in|link|request
    sa.Column("name", Words(100)),
    sa.Column("role", sa.String(20)),
    sa.Column("key_id", sa.String(20)),  # of a sign-in by key: it ends when the key does
    sa.Column("notice", Json),  # what the last click did, shown once
    sa.Column("request", Json),  # state and nonce of a sign-in that is under way
    sa.Column("created_at", UtcDateTime, nullable=False, server_default=utc_now()),
    sa.Column("seen_at", UtcDateTime, nullable=False, server_default=utc_now()),
    sa.Column("valid_until", UtcDateTime, nullable=False),
    sa.Column("recheck_at", UtcDateTime),  # of OpenID Connect: from then on the provider is asked again
)

# Plans made in the console: a person reads one and approves it by its hash. `steps` are as the file of a plan has them.
console_plans = sa.Table(
    "midas_console_plans",
    store,
    sa.Column("hash", sa.String(64), primary_key=True),
    sa.Column("made_at", sa.String(40), nullable=False),
    sa.Column("made_by", Words(100), nullable=False),
    sa.Column("steps", Json, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False, server_default=utc_now()),
    sa.Column("approved_at", UtcDateTime),
    sa.Column("approved_by", Words(100)),
    sa.Column("result", Words()),
)

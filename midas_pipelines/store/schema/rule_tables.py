"""Channel rules, the agenda of when they take effect, and the conflicts that reconciliation found."""

from __future__ import annotations

import sqlalchemy as sa

from midas_pipelines.store.schema.tables import BigId, numbered, partial_index
from midas_pipelines.storefront.types import Json, Money, UtcDateTime, Words, utc_now

# One row per scope (a whole channel, a category with those below it, or an item), start and change: who changes a rule
# replaces its row by a whole new one, so that the replaced ones are its history. An empty field says nothing; a row of
# empty fields is a rule that was removed.
channel_rules = numbered(
    "channel_rules",
    sa.Column("channel", sa.String(20), nullable=False),
    sa.Column("category_id", sa.Integer),
    sa.Column("product_id", sa.Integer),
    sa.Column("variant_id", sa.Integer),
    sa.Column("valid_from", UtcDateTime, nullable=False),  # 1970 where it holds from the beginning
    sa.Column("valid_until", UtcDateTime),
    sa.Column("buffer", sa.Integer),  # units kept back
    sa.Column("cap", sa.Integer),  # most units shown
    sa.Column("allocation", sa.Integer),  # percent of what is left after the buffer
    sa.Column("fixed", sa.Integer),  # units shown whatever is on hand
    sa.Column("exclude", sa.Boolean),  # never listed
    sa.Column("minimum_price", Money),  # USD; a lower selling price is raised to it
    sa.Column("policy", sa.String(20)),  # source_wins|marketplace_wins|manual, for fields without their own
    sa.Column("price_policy", sa.String(20)),
    sa.Column("quantity_policy", sa.String(20)),
    sa.Column("content_policy", sa.String(20)),
    sa.Column("low_stock", sa.Integer),  # alert at this many units on hand or fewer
    sa.Column("cover_days", sa.Integer),  # alert when stock lasts fewer days than this
    sa.Column("changed_at", UtcDateTime, nullable=False, server_default=utc_now()),
    sa.Column("changed_by", Words(120), nullable=False),
    sa.Column("replaced_at", UtcDateTime),
)
CURRENT = channel_rules.c.replaced_at.is_(None)
_SCOPE = ", ".join(f"coalesce({name}, 0)" for name in ("category_id", "product_id", "variant_id"))
partial_index(channel_rules, "channel_rules_once", f"channel, {_SCOPE}, valid_from", CURRENT, unique=True)
sa.Index("channel_rules_item", channel_rules.c.product_id)

# From `due_at` on, the items of the scope have to be looked at again; the row goes when they are marked dirty.
rule_agenda = numbered(
    "channel_rule_agenda",
    sa.Column("category_id", sa.Integer),
    sa.Column("product_id", sa.Integer),
    sa.Column("variant_id", sa.Integer),
    sa.Column("due_at", UtcDateTime, nullable=False, server_default=utc_now()),
)

# What shop and channel disagree on: one open row per subject and field.
sync_conflicts = numbered(
    "sync_conflicts",
    sa.Column("subject", sa.String(150), nullable=False),  # mapping:ID; product:4SELLER-ID without an item
    sa.Column("mapping_id", BigId),
    sa.Column("sku", Words(255)),
    sa.Column("fourseller_product_id", sa.String(100)),
    sa.Column("field", sa.String(20), nullable=False),  # listing|price|quantity|content|unknown
    sa.Column("shop_value", Words()),
    sa.Column("fourseller_value", Words()),
    sa.Column("policy", sa.String(20), nullable=False),
    sa.Column("delta", sa.Integer),  # units 4Seller has more, or fewer, than we last put there
    sa.Column("found_at", UtcDateTime, nullable=False, server_default=utc_now()),
    sa.Column("seen_at", UtcDateTime, nullable=False, server_default=utc_now()),
    sa.Column("resolved_at", UtcDateTime),
    sa.Column("resolution", sa.String(20)),  # shop|marketplace|gone: whose value won, or both agree by now
    sa.Column("resolved_by", sa.String(100)),  # policy, or the person's name
    sa.Column("pinned_before", Json),  # the item's pins before a person decided, for an undo
    sa.Column("run_id", sa.String(64)),
)
sa.Index("sync_conflicts_item", sync_conflicts.c.mapping_id)
partial_index(
    sync_conflicts, "sync_conflicts_open_once", "subject, field", "resolved_at IS NULL", unique=True
)

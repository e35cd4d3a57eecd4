"""The register of personal data: each column of our tables and the shop's, each log and file, with purpose and period.
`sync/privacy/erase.py` erases by it, `docs/personal-data.md` with the record of Art. 30 GDPR is printed from it, and a test
fails when a table has a column that it does not name."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any


class Purpose(StrEnum):
    """Why personal data is kept, with its legal basis."""

    DELIVER = "Deliver what was bought and answer the buyer (contract, Art. 6(1)(b) GDPR)"
    REPLAY = "Apply again what the marketplace sent, prove what was sold (legitimate interest, Art. 6(1)(f))"
    SUPPORT = "Find out why an order or a message is stuck (legitimate interest, Art. 6(1)(f))"
    BOOKS = "Keep books as tax law demands (legal obligation, Art. 6(1)(c)); names no buyer"
    RIGHTS = "Answer a person's request and prove it (legal obligation, Art. 6(1)(c), 12 and 30)"
    SECURITY = "Show who changed what (legal obligation, Art. 32 GDPR)"


class End(StrEnum):
    """How personal data of a column ends."""

    CLEARED = "set empty when the buyer is erased"
    REPLACED = "replaced when the buyer is erased: by known words, or by a mark"
    STAYS = "stays with the order: it names no buyer"
    AUDIT = "deleted after MIDAS_KEEP_AUDIT_DAYS"
    REQUEST = "stays as the proof of the request: it names no buyer in clear"
    KEY = "stays while the key or the person's access lasts"


@dataclass(frozen=True)
class Personal:
    """What a column may hold of a person. `sealed` is whether it is encrypted by us."""

    what: str
    purpose: Purpose
    end: End
    sealed: bool = False


@dataclass(frozen=True)
class TableEntry:
    """One table: its columns without personal data, separated by blanks, those with some, and when a row is deleted."""

    impersonal: str
    personal: dict[str, Personal] = field(default_factory=dict)
    kept: str = ""

    @property
    def columns(self) -> set[str]:
        """Every column that the register knows."""
        return {*self.impersonal.split(), *self.personal}

    def ends(self, one: Personal) -> str:
        """How a column's data ends, in words: with its row at the latest, where rows are deleted in time."""
        first = [] if self.kept and one.end is End.STAYS else [one.end.value]
        return "; ".join([*first, f"deleted after {self.kept}"] if self.kept else first)


_SALE = Personal("the number of the sale at the marketplace", Purpose.BOOKS, End.STAYS)
_ORDER = Personal("an order's number", Purpose.SUPPORT, End.STAYS)
_ADDRESS = Personal("name, address, phone, e-mail of the buyer", Purpose.DELIVER, End.REPLACED)
_SAID = Personal("a word of the marketplace, which may be any text", Purpose.DELIVER, End.REPLACED)
_REASON = Personal("a sentence that may quote the order", Purpose.SUPPORT, End.CLEARED)

_sealed = partial(Personal, purpose=Purpose.REPLAY, end=End.REPLACED, sealed=True)
_alert = partial(Personal, purpose=Purpose.SUPPORT, end=End.REPLACED)
_right = partial(Personal, purpose=Purpose.RIGHTS, end=End.REQUEST)
_staff = partial(Personal, purpose=Purpose.SECURITY, end=End.KEY)
_audit = partial(Personal, purpose=Purpose.SECURITY, end=End.AUDIT)

TABLES: dict[str, TableEntry] = {
    # the shop's
    "categories": TableEntry("id name slug description parent_id created_at updated_at"),
    "products": TableEntry(
        "id name slug sku description price discount_percentage stock_quantity is_featured is_new image_url "
        "weight dimensions category_id brand status created_at updated_at"
    ),
    "product_images": TableEntry("id product_id image_url is_primary display_order"),
    "product_variants": TableEntry("id product_id variant_type variant_value price_adjustment stock_quantity sku"),
    "orders": TableEntry(
        "id status total_amount payment_status shipping_method shipping_cost created_at updated_at", {
            "user_id": Personal("the shop's own customer; empty for a marketplace's order", Purpose.DELIVER, End.STAYS),
            "order_number": _SALE, "shipping_address": _ADDRESS, "billing_address": _ADDRESS,
            "payment_method": _SAID,
            "notes": Personal("notes, also those of the shop's people", Purpose.DELIVER, End.REPLACED),
        }),
    "order_items": TableEntry(
        "id order_id product_id variant_id quantity price total_price created_at",
        {"product_name": Personal("a title; may have an engraving in it", Purpose.DELIVER, End.REPLACED)}),
    "order_status_history": TableEntry(
        "id order_id status created_at",
        {"notes": Personal("notes to a status", Purpose.DELIVER, End.CLEARED)}),
    # ours, about orders
    "marketplace_orders": TableEntry(
        "id channel local_order_id status outcome exception total lines_total shipping_cost tax discount "
        "placed_at source_updated_at shop_status_since imported_at content_at disputed_at resolution "
        "erased_at push_attempts push_after", {
            "marketplace_order_id": _SALE, "sales_channel": _SAID, "status_word": _SAID, "currency": _SAID,
            "reason": _alert("why it is quarantined"),
            "payload": _sealed("the whole order as the marketplace sent it"),
            "content_hash": Personal("digests of buyer and address", Purpose.REPLAY, End.REPLACED),
        }),
    "marketplace_order_lines": TableEntry(
        "id order_id line quantity price order_item_id product_id variant_id allocated released exception "
        "backordered shipped returned",
        {"sku": _SAID, "fourseller_product_id": _SAID, "title": _SAID}),
    "order_processing_logs": TableEntry(
        "id channel step run_id created_at",
        {"marketplace_order_id": _SALE, "detail": _REASON},
        "MIDAS_KEEP_ORDER_LOGS_DAYS, but not what a person decided"),
    "order_shipments": TableEntry(
        "id order_id carrier shipped_at booked_at pushed_at attempts next_attempt_at contents", {
            "tracking_number": Personal("a shipment's number", Purpose.DELIVER, End.STAYS),
            "tracking_url": Personal("its page at the carrier", Purpose.DELIVER, End.STAYS),
            "source": Personal("who recorded it", Purpose.SUPPORT, End.STAYS),
            "reason": _REASON,
        }),
    "order_shipment_lines": TableEntry("id shipment_id order_item_id quantity"),
    "customer_mails": TableEntry(
        "id order_id kind shipment_id state attempts next_attempt_at created_at sent_at",
        {"reason": _REASON}),
    "marketplace_webhooks": TableEntry(
        "id webhook_id type subject received_at claimed_by claimed_until attempts next_attempt_at "
        "processed_at outcome",
        {"payload": _sealed("the whole order as an event brought it"), "reason": _REASON},
        "MIDAS_KEEP_WEBHOOKS_DAYS, once applied or superseded"),
    "alerts": TableEntry(
        "id kind created_at cleared_at sent_at sent_to attempts next_attempt_at reason snoozed_until", {
            "subject": _alert("an order's number or status word"),
            "members": _alert("several such subjects"), "text": _alert("a sentence about an order"),
            "taken_by": _staff("who sees to it"),
        }, "MIDAS_KEEP_ALERTS_DAYS, once closed"),
    "fourseller_api_errors": TableEntry(
        "id endpoint status attempt run_id created_at",
        {"item": _ORDER, "code": _REASON, "message": _REASON}, "MIDAS_KEEP_API_ERRORS_DAYS"),
    "buyer_holds": TableEntry(
        "id order_id held_until created_at released_at", {
            "because": Personal("which law keeps the buyer", Purpose.BOOKS, End.CLEARED),
            "held_by": _audit("the person who decided"),
        }),
    "privacy_requests": TableEntry(
        "id kind received_at due_at done_at", {
            "subject": _right("a keyed digest of who asked, or an order's number"),
            "asked_by": _right("the person who passed it on"),
            "orders": _right("the numbers of the person's orders"),
            "proof": _right("what was erased or held"), "sent": _right("to whom what was sent"),
        }),
    "midas_shadow_writes": TableEntry(
        "digest kind call run_id first_at last_at times", {
            "subject": _ORDER,
            "content": Personal("an order's status and tracking number", Purpose.SUPPORT, End.STAYS),
        }),
    "midas_repeated_calls": TableEntry(
        "digest body_digest begun_at status media_type",
        {"body": Personal("an order's number", Purpose.SUPPORT, End.STAYS)}, "24 hours"),
    # ours, about people who work here
    "gateway_keys": TableEntry(
        "id key_id role secret_hash created_at valid_until revoked_at last_used_at",
        {"name": _staff("whose key it is")}),
    "gateway_lockouts": TableEntry(
        "failures failed_at locked_until",
        {"subject": _staff("the network address of a caller with wrong keys, for an hour")}),
    "gateway_audit": TableEntry(
        "id at event role action status request_id previous hash", {
            "actor": _audit("the key or the person that acted"),
            "target": _audit("an order's number"),
            "detail": _audit("known fields of the call"),
            "remote": _audit("the network address of the caller"),
        }),
    "midas_proofs": TableEntry("id name at passed detail", {"by": _staff("the person who checked")}),
    "midas_console_sessions": TableEntry(
        "id token_hash kind role key_id notice request created_at seen_at valid_until recheck_at",
        {"name": _staff("who is signed in to the console")}),
    "midas_console_plans": TableEntry(
        "hash made_at steps created_at approved_at result",
        {"made_by": _staff("who made the plan"), "approved_by": _staff("who approved it")}),
    "gateway_audit_head": TableEntry("id start_hash last_id last_hash"),
    # ours, about items and syncs
    "fourseller_product_mappings": TableEntry(
        "id product_id variant_id sku fourseller_product_id state reason version dirty_since acked_version "
        "acked_hash acked_price acked_quantity acked_at observed_hash observed_price observed_quantity "
        "observed_at judged_key claimed_by claimed_until claim_number recheck_at creating_since attempts "
        "next_attempt_at pinned_fields created_at"
    ),
    "midas_listing_writes": TableEntry("id at run_id mapping_id sku action before after content_hash undone_at"),
    "midas_contract_findings": TableEntry("digest kind call place what example first_at last_at times"),
    "midas_hub_skus": TableEntry("hub_sku product_id variant_id"),
    "midas_workers": TableEntry("name alive_until"),
    "inventory_changes": TableEntry("id product_id variant_id delta quantity_after source cause reference created_at"),
    "fourseller_sync_logs": TableEntry("id kind run_id scope started_at counts requests seconds outcome reason"),
    "midas_rate_limits": TableEntry("name next_slot next_real_time blocked_until"),
    "midas_cursors": TableEntry("name moment value"),
    "channel_rules": TableEntry(
        "id channel category_id product_id variant_id valid_from valid_until buffer cap allocation fixed "
        "exclude minimum_price policy price_policy quantity_policy content_policy low_stock cover_days "
        "changed_at replaced_at",
        {"changed_by": _staff("the person who set the rule")}),
    "channel_rule_agenda": TableEntry("id category_id product_id variant_id due_at"),
    "sync_conflicts": TableEntry(
        "id subject mapping_id sku fourseller_product_id field shop_value fourseller_value policy delta "
        "found_at seen_at resolved_at resolution pinned_before run_id",
        {"resolved_by": _audit("the person who decided")}),
}  # fmt: skip

OTHER_PLACES = (
    ("Dagster's storage (DAGSTER_HOME or its PostgreSQL)", "order numbers, counts; no buyer", "MIDAS_KEEP_RUNS_DAYS"),
    ("Logs of the gateway and of runs", "network addresses of callers, order numbers; no buyer", "as the host keeps logs"),
    ("Metrics (/metrics)", "counts; no buyer", "as Prometheus keeps them"),
    ("The payload key (MIDAS_PAYLOAD_KEY_FILE)", "the key that opens sealed payloads", "until it is rotated"),
    ("Customer mail in transit (MIDAS_SMTP_URL)", "name, e-mail, what was bought", "not kept by us; the mail server's own period"),
)  # fmt: skip
"""Logs, files and services outside the tables: where, what, and how long."""

RECIPIENTS = {
    "4Seller": "the hub: the order came from there, statuses and tracking numbers go back",
    "the marketplace": "through 4Seller: statuses and tracking numbers",
    "the mail server": "name, e-mail and what was bought, in a message to the buyer",
    "the carrier": "name, address, phone; the shop's own shipping software hands them over",
}


def ending(table: str, end: End) -> frozenset[str]:
    """The columns of a table whose personal data ends in that way."""
    return frozenset(name for name, place in TABLES[table].personal.items() if place.end is end)


def register_rows() -> list[dict[str, Any]]:
    """Each column that may hold personal data, as a row for a program."""
    return [
        {"table": table, "column": column, "what": one.what, "why": one.purpose.value, "sealed": one.sealed}
        | {"ends": entry.ends(one)}
        for table, entry in TABLES.items()
        for column, one in entry.personal.items()
    ]


_HEAD = """# Personal data

Printed from the register in code (`midas_pipelines/store/privacy/register.py`) by `midas privacy register --markdown`. A
column that is not named here holds none; a test fails when a table gets a column that the register does not know.

## Where it is

| table | column | what | why | sealed | ends |
|---|---|---|---|---|---|"""

_CLOCK = """
A buyer is erased `MIDAS_ERASE_BUYERS_AFTER_DAYS` days (default 30) after the delivery; where no delivery comes, after the
order was shipped, cancelled or refunded; where nothing of that comes either, that long after 90 days without any news of
the order. What the law wants kept longer is held for each order: `midas orders hold ID --until DATE --because TEXT`.

## Other places

| where | what | how long |
|---|---|---|"""

_RECORD = """
## Record of processing (Art. 30 GDPR)

Fill in what only you know, and keep the page with your records.

- **Controller**: *name, address, e-mail of the shop; of its data protection officer, if it has one*
- **Persons**: buyers on marketplaces; people who work with this system (keys, audit log)
- **Transfers to other countries**: *where 4Seller, the mail server and the database are, and on what ground*
- **Security**: payloads sealed with AES-256-GCM, TLS with verified certificates, roles, an append-only audit log
"""


def register_page() -> str:
    """The page docs/personal-data.md."""
    rows, lines = register_rows(), [_HEAD]
    for row in rows:
        why, sealed = row["why"].partition(" (")[0], "yes" if row["sealed"] else ""
        named = f"| `{row['table']}` | `{row['column']}` | {row['what']}"
        lines.append(f"{named} | {why} | {sealed} | {row['ends']} |")
    lines.append(_CLOCK)
    lines += [f"| {' | '.join(place)} |" for place in OTHER_PLACES]
    lines += [_RECORD, "| purpose | data | ends |", "|---|---|---|"]
    for purpose in Purpose:
        mine = [row for row in rows if row["why"] == purpose.value]
        data = dict.fromkeys(row["what"] for row in mine)
        ends = dict.fromkeys(end for row in mine for end in row["ends"].split("; "))
        lines.append(f"| {purpose.value} | {'; '.join(data)} | {'; '.join(ends)} |")
    lines += ["", "| recipient | what it gets |", "|---|---|"]
    lines += [f"| {name} | {what} |" for name, what in RECIPIENTS.items()]
    return "\n".join(lines) + "\n"

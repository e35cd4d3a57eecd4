"""The register as a page: where personal data may be, and the record of processing that Art. 30 GDPR asks for. Pure."""

from __future__ import annotations

from midas_pipelines.store.privacy.register import OTHER_PLACES, RECIPIENTS, TABLES, Purpose

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
    lines = [_HEAD]
    for table, entry in TABLES.items():
        for column, one in entry.personal.items():
            sealed = "yes" if one.sealed else ""
            lines.append(
                f"| `{table}` | `{column}` | {one.what} | {_name(one.purpose)} | {sealed} | {one.end.value} |"
            )
    lines.append(_CLOCK)
    lines += [f"| {place.where} | {place.what} | {place.period} |" for place in OTHER_PLACES]
    lines += [_RECORD, "| purpose | data | ends |", "|---|---|---|"]
    for purpose in Purpose:
        data, ends = _of(purpose)
        lines.append(f"| {purpose.value} | {'; '.join(data)} | {'; '.join(ends)} |")
    lines += ["", "| recipient | what it gets |", "|---|---|"]
    lines += [f"| {name} | {what} |" for name, what in RECIPIENTS.items()]
    return "\n".join(lines) + "\n"


def _name(purpose: Purpose) -> str:
    return purpose.value.partition(" (")[0]


def _of(purpose: Purpose) -> tuple[list[str], list[str]]:
    """What is kept for a purpose, and how it ends; each once."""
    mine = [one for entry in TABLES.values() for one in entry.personal.values() if one.purpose is purpose]
    return list(dict.fromkeys(one.what for one in mine)), list(dict.fromkeys(one.end.value for one in mine))

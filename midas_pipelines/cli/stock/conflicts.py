"""`midas reconcile` and `midas conflicts`: read back what 4Seller shows, and resolve what differs."""

from __future__ import annotations

import asyncio

import click
import sqlalchemy as sa

from midas_pipelines.cli.dagster.sync import end, execute
from midas_pipelines.cli.opening import Changing, actor, shop_database
from midas_pipelines.cli.printing import AnsweringGroup, Table, answer, sync_sentence
from midas_pipelines.store.items.conflicts import OPEN, find_conflicts, read_conflict
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.listings.pins import FIELDS
from midas_pipelines.sync.product_sync import mapping_ids
from midas_pipelines.sync.reconcile.conflicts import SIDES, pin_field, release_pin, resolve

CONFLICT_ID = click.IntRange(1, 2**63 - 1)
SHOWN = ("id", "sku", "field", "shop_value", "fourseller_value", "policy", "found_at")


@click.group(cls=AnsweringGroup)
def conflicts() -> None:
    """List and resolve conflicts between shop and 4Seller; pin fields to keep them as they are on 4Seller."""


@conflicts.command("list")
@click.option("--all", "everything", is_flag=True, help="Also the resolved ones, the newest first.")
def show_all(everything: bool) -> None:
    """List the open conflicts."""
    with shop_database() as (_, database), database.reading() as connection:
        found = find_conflicts(connection, sa.true() if everything else OPEN)
    names = (*SHOWN, "resolution", "resolved_by") if everything else SHOWN
    rows = [{name: row[name] for name in names} for row in found]
    answer({"conflicts": rows}, Table("Conflicts", rows, "No conflict is open."))


@conflicts.command("show")
@click.argument("conflict_id", type=CONFLICT_ID, metavar="ID")
def show_conflicts(conflict_id: int) -> None:
    """Everything on record about one conflict."""
    with shop_database() as (_, database), database.reading() as connection:
        found = read_conflict(connection, conflict_id)
    if found is None:
        raise click.UsageError(f"There is no conflict {conflict_id}: see `midas conflicts list --all`.")
    rows = [{"what": name, "value": value} for name, value in found.items() if value is not None]
    answer(found, Table(f"Conflict {conflict_id}", rows))


@conflicts.command("resolve", cls=Changing)
@click.argument("conflict_id", type=CONFLICT_ID, metavar="ID")
@click.option("--take", type=click.Choice(SIDES), required=True, help="Whose value counts.")
def resolve_(conflict_id: int, take: str) -> None:
    """Resolve a conflict: take the shop's value, which the next sync pushes, or the marketplace's.

    The marketplace's quantity becomes a row of the ledger; any other field is pinned. A product that matches no
    item is deleted from 4Seller with `--take shop` and left alone with `--take marketplace`.
    """
    with shop_database() as (settings, database):
        done = asyncio.run(resolve(SyncContext(settings, database), conflict_id, take, actor(settings)))
    answer(done, f"Conflict {conflict_id} is resolved: the {take}'s {done.get('field')} counts.")


@conflicts.command(cls=Changing)
@click.argument("sku")
@click.argument("field", type=click.Choice(FIELDS))
def pin(sku: str, field: str) -> None:
    """Leave FIELD of an item on 4Seller as it is now, whatever the shop says, until it is released."""
    with shop_database() as (settings, database):
        context = SyncContext(settings, database)
        value = asyncio.run(pin_field(context, mapping_ids(context, [sku])[0], field))
    words = f"{sku}: {field} stays {value} on 4Seller until `midas conflicts release {sku} {field}`."
    answer({"sku": sku, "field": field, "value": value}, words)


@conflicts.command("release", cls=Changing)
@click.argument("sku")
@click.argument("field", type=click.Choice((*FIELDS, "listing")), required=False)
def let_go(sku: str, field: str | None) -> None:
    """Let go of a pinned FIELD of an item, or of all of them; the next sync pushes the shop's value."""
    with shop_database() as (settings, database):
        context = SyncContext(settings, database)
        released = release_pin(context, mapping_ids(context, [sku])[0], field)
    words = f"{sku}: released {', '.join(released)}." if released else f"{sku} has no such pin."
    answer({"sku": sku, "released": released}, words)


@click.command(cls=Changing)
def reconcile() -> None:
    """Read every listing back, compare it with the shop, and resolve differences by policy.

    Runs the Dagster job `consistency_check` in this process. Consistency is the share of items that 4Seller showed as
    they should be, before anything was resolved; null when none could be judged. Items that are being pushed count as
    changing, those that no readable row shows as not seen. Exits 1 when it failed, 2 for wrong settings.
    """
    run, found, shown = execute("consistency_check", "reconcile")
    facts = {name: found.get(name) for name in ("consistency", "complete", "note")}
    worst = found.get("worst", [])
    answer(
        shown | facts | {"worst": worst},
        sync_sentence("Reconciled", shown),
        consistency_sentence(facts["consistency"], unread=bool(run.failure) or not facts["complete"]),
        Table("What differed", worst),
    )
    end(run, (found.get("stopped"), facts["note"]), failed=found.get("failed"))


def consistency_sentence(consistency: float | None, *, unread: bool) -> str:
    """What could be judged, as a sentence; `unread` when 4Seller could not be read whole."""
    if consistency is None:
        why = "4Seller could not be read whole" if unread else "No item could be compared"
        return f"{why}, so consistency was not judged."
    return f"Consistency is {consistency:.2%}{', of what could be read of 4Seller' if unread else ''}."

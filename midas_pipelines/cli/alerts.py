"""`midas alerts`: alerts to staff, sent and waiting."""

from __future__ import annotations

import sys

import click

from midas_pipelines.cli.audited import Changing
from midas_pipelines.cli.opening import shop_database
from midas_pipelines.cli.printing import json_option, print_json, print_table, say
from midas_pipelines.notify.alerts import recent_alerts
from midas_pipelines.notify.delivery import deliver
from midas_pipelines.notify.targets import read_targets, require_understood
from midas_pipelines.settings import load_settings

MOST_LISTED = 100


@click.group()
def alerts() -> None:
    """List staff alerts, and send those that are due. Targets are the apprise addresses in MIDAS_NOTIFY_URLS."""
    require_understood(load_settings().notify_urls)


@alerts.command("list")
@click.option("--all", "everything", is_flag=True, help="Also closed alerts.")
@click.option("--kind", help="Only this kind, such as low_stock.")
@json_option
def show_alerts(everything: bool, kind: str | None, as_json: bool) -> None:
    """The open alerts, the newest hundred first."""
    with shop_database() as (_, database), database.reading() as connection:
        limit = None if everything else MOST_LISTED
        found, total = recent_alerts(connection, only_open=not everything, kind=kind, limit=limit)
    if as_json:
        print_json({"alerts": found, "total": total})
    elif found:
        print_table("Alerts", found, total, "--all shows every one, --kind those of one kind")
    else:
        say("No alert is open.")


@alerts.command(cls=Changing)
@json_option
def send(as_json: bool) -> None:
    """Send the alerts that are due. Exits 1 when a target did not take them; they stay in the outbox."""
    with shop_database() as (settings, database):
        targets = read_targets(settings.notify_urls)
        if not targets:
            raise click.UsageError(
                "MIDAS_NOTIFY_URLS is not set: give apprise addresses, such as mailtos://..."
            )
        done = deliver(database, targets, settings.console_url)
    if as_json:
        print_json(vars(done))
    else:
        say(f"{done.sent} alerts sent, {done.waiting} wait. {' '.join(done.problems)}".strip())
    sys.exit(1 if done.waiting else 0)

"""The command line `midas`. Each command lives in its own file and is imported only when it is called."""

from __future__ import annotations

import gc
import importlib
import os
import sys

import click

from midas_pipelines.cli.local.beside import idle_advice, join_workplace
from midas_pipelines.cli.printing import say
from midas_pipelines.errors import ExpectedError

COMMANDS = {
    "alerts": ("messages", "List staff alerts, and send those that are due."),
    "audit": ("security.recovery", "Show who changed what, and verify that log."),
    "backup": ("security.recovery", "Make, verify, restore and drill backups."),
    "compliance": ("security.recovery", "Compare what marketplaces and the law ask with what runs here."),
    "conflicts": ("stock.conflicts", "List and resolve conflicts between shop and 4Seller."),
    "connect": ("safety", "Match items with existing listings, before the first sync."),
    "contract": ("safety", "Try the account against the contract, and list where it differs."),
    "db": ("database", "Prepare the shop's database, or show its version."),
    "demo": ("local.demo", "Show the whole system at work on a sample shop, in a minute."),
    "dev": ("local.dev", "Run everything on this machine: sandbox, schedules, Dagster UI."),
    "diff": ("stock.explain", "Show what changed on 4Seller between two days, and why."),
    "doctor": ("safety", "Check everything that a start needs, line by line."),
    "explain": ("stock.explain", "Explain what 4Seller shows for an item."),
    "gateway": ("gateway", "Serve webhooks and the shop's calls, in real time."),
    "incident": ("security.recovery", "Lock everything but the import of orders, and pack evidence."),
    "instance": ("dagster.instance", "Prepare Dagster's own settings and storage."),
    "items": ("stock.items", "List quarantined items, and retry them."),
    "keys": ("security.keys", "Make, list, rotate and revoke keys for the gateway."),
    "orders": ("orders.changing", "Show marketplace orders, ship them, resolve exceptions."),
    "privacy": ("security.privacy", "Show where personal data is; find, export, erase a person."),
    "reconcile": ("stock.conflicts", "Read back what 4Seller shows, and resolve differences."),
    "rules": ("stock.rules", "Set rules for what a channel shows of the shop's stock."),
    "sandbox": ("local.sandbox", "Run a 4Seller of your own, for development."),
    "settings": ("status", "Show every setting, its value and its default."),
    "shadow": ("safety", "Show what shadow mode kept back, and where it differs."),
    "status": ("status", "Show what is in sync, what waits and what needs a person."),
    "step-worker": ("dagster.instance", "Execute runs from the Celery queue."),
    "stock": ("stock.items", "Show low stock and top sellers."),
    "store": ("local.sandbox", "Make a sample shop."),
    "sync": ("dagster.sync", "Sync products, stock and orders now."),
    "undo": ("safety", "Put back what a run wrote to 4Seller."),
    "webhooks": ("messages", "List and replay the events that 4Seller sent."),
    "worker": ("gateway", "Process webhooks and changes, without serving HTTP."),
    "workflows": ("status", "List the automatic workflows and how often they run."),
}
"""The commands: the file below this folder that holds each, as a function of its name, and what it does."""


class Commands(click.Group):
    """Finds a command by name and imports it then, so that `midas --help` answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, for the help."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported."""
        if cmd_name not in COMMANDS:
            return None
        gc.disable()  # what is imported stays: to look for garbage in it costs a tenth of the start
        module = importlib.import_module(f"{__name__}.{COMMANDS[cmd_name][0]}")
        gc.freeze()
        gc.enable()
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Runs the command; why it failed may quote what came from outside."""
        try:
            if not {"-h", "--help"} & set(sys.argv) and (joined := join_workplace("".join(sys.argv[1:2]))):
                say(joined, err=True)
            return super().invoke(ctx)
        except click.UsageError:  # quotes what the caller typed alone, on lines of its own
            raise
        except (click.ClickException, ExpectedError) as failed:
            advice = ("is not set" in str(failed) and idle_advice()) or getattr(failed, "advice", "")
            say(f"Error: {failed} {advice}".rstrip(), err=True)
            ctx.exit(failed.exit_code)
        except Exception as failed:
            from midas_pipelines.cli.opening import database_error_text  # which imports sqlalchemy

            sentence = database_error_text(failed)
            if sentence is None:
                raise
            say(f"Error: {sentence}", err=True)
            ctx.exit(1)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in the help, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in sorted(COMMANDS)])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="midas-pipelines", prog_name="midas")
def cli() -> None:
    """Keep a shop and its marketplaces in sync: products, stock, orders and statuses.

    \b
    Settings come from the environment:
      MIDAS_DATABASE_URL    the shop's database, e.g. postgresql://user@host/shop or sqlite:///shop.db
      FOURSELLER_API_KEY    from your 4Seller account
      FOURSELLER_SELLER_ID  from your 4Seller account
      DAGSTER_HOME          where Dagster keeps its history; without it a sync leaves none there

    \b
    Exit codes: 0 done, 1 something failed, 2 wrong usage or settings.
    Start with `midas demo`; on a real shop with `midas doctor`, then `midas db upgrade` and `midas connect`.
    """


def main() -> None:
    """Runs the command line; a wrong setting is one sentence and exit code 2."""
    os.umask(0o077)  # databases, histories and secrets that are made belong to this user alone
    try:
        " ".join(sys.argv).encode()
    except UnicodeEncodeError:
        click.echo("Error: The command holds bytes that are no UTF-8 text: type it again.", err=True)
        sys.exit(2)
    cli.main(prog_name="midas", standalone_mode=True)

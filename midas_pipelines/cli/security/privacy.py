"""`midas privacy`: where personal data is, and what a person may ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from midas_pipelines.cli.opening import Changing, actor, shop_database
from midas_pipelines.cli.printing import AnsweringGroup, Table, answer, print_json, wants_json
from midas_pipelines.errors import WrongInput
from midas_pipelines.store.privacy.register import register_page, register_rows
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.privacy.due import erase_due_buyers, erasure_weeks
from midas_pipelines.sync.privacy.requests import (
    PrivacyAnswer,
    Subject,
    answer_request,
    list_requests,
    note_sent,
)


@click.group(cls=AnsweringGroup)
def privacy() -> None:
    """Show where personal data is; find, export and erase a person."""


@privacy.command()
@click.option("--markdown", is_flag=True, help="Print docs/personal-data.md, with the record of Art. 30.")
def register(markdown: bool) -> None:
    """Show each column that may hold personal data: what, why, and how it ends."""
    if markdown:
        click.echo(register_page(), nl=False)
        return
    answer({"register": register_rows()}, Table("Personal data", register_rows()))


@privacy.command("due")
def due_weeks() -> None:
    """Show by week whose time comes, who was erased, and whom the law keeps."""
    with shop_database() as (settings, database):
        totals, weeks = erasure_weeks(database, settings)
    now = "{due} are due now ({overdue} overdue), {erased} erased, {held} held by law, {never} never to be erased."
    answer(totals | {"weeks": weeks}, Table("Buyers by week", weeks), now.format(**totals))


@privacy.command("erase-due", cls=Changing)
def erase_due() -> None:
    """Erase every buyer whose time has come, as the workflow buyer_erasure does each night."""
    with shop_database() as (settings, database):
        by_hand = f"{actor(settings)[:40]}: midas privacy erase-due"
        report = erase_due_buyers(SyncContext(settings, database, run_id=by_hand))
    said = f"{report.erased} buyers erased, {report.events} old events emptied, {report.left} left."
    answer(vars(report), said)


class AboutPerson(Changing):
    """A command about a person: its row in the audit log says who asked, and never about whom."""

    def detail(self, _: click.Context) -> dict[str, Any]:
        """Nothing of what was given."""
        return {}


def person_options(command: Callable[..., None]) -> Callable[..., None]:
    """The ways to name a person, exactly one at a time."""
    for kind, what in (
        ("order", "An order of the person: the marketplace's id, the order number or the shop's id."),
        ("account", "The user name or user id at the marketplace."),
        ("name", "The name; case and the order of first and last name do not count."),
        ("phone", "The phone; its last nine digits are compared."),
        ("email", "The e-mail address."),
    ):
        command = click.option(f"--{kind}", help=what)(command)
    return command


def _request(kind: str, given: dict[str, str | None]) -> PrivacyAnswer:
    named = [Subject(name, text) for name, text in given.items() if text is not None]
    if len(named) != 1:
        raise WrongInput("Name the person in one way: --email, --phone, --name, --account or --order.")
    with shop_database() as (settings, database):
        who = actor(settings)
        context = SyncContext(settings, database, run_id=f"{who[:40]}: midas privacy {kind}")
        return answer_request(context, kind, named[0], who)


@privacy.command(cls=AboutPerson)
@person_options
def find(**given: str | None) -> None:
    """Find the orders and events of a person, though what is stored is sealed."""
    found = _request("find", given)
    events = f", {found.events} events of no known order" if found.events else ""
    said = f"Request {found.request}: {len(found.orders)} orders{events}. {', '.join(found.orders)}"
    answer(found.model_dump(), said.rstrip())


@privacy.command(cls=AboutPerson)
@person_options
def export(**given: str | None) -> None:
    """Print all data of a person, with purposes, recipients and periods: the copy of Articles 15 and 20 GDPR."""
    print_json(_request("export", given).export or {})


@privacy.command("erase", cls=AboutPerson)
@person_options
@click.option("--yes", is_flag=True, help="Do not ask.")
def erase_person(yes: bool, **given: str | None) -> None:
    """Erase a person from every order and event; what the law keeps stays, and is named.

    Exits 1 while something is left: run it again then. What has to be sent to others is shown; record it with
    `midas privacy sent`.
    """
    if not (yes or wants_json()):
        click.confirm("Erase this person for good? `midas privacy find` shows the orders", abort=True)
    found = _request("erase", given)
    answer(
        found.model_dump(),
        f"Request {found.request}: {len(found.erased)} orders erased, {found.events} events emptied.",
        *found.held.values(),
        *(f"Order {order} is busy, or shadow mode keeps it: try again." for order in found.left),
        *(f"Inform {name}: {what}." for name, what in found.notify.items()),
        failed=not found.done,
    )


@privacy.command()
def requests() -> None:
    """List requests of persons: when they came, until when they have to be answered, the proof, what was sent to whom."""
    with shop_database() as (_, database), database.reading() as connection:
        found = list_requests(connection)
    shown = ("id", "kind", "asked_by", "received_at", "due_at", "done_at", "proof", "sent")
    rows = [{name: row[name] for name in shown} for row in found]
    answer({"requests": found}, Table("Requests", rows, "There is no request."))


@privacy.command(cls=AboutPerson)
@click.argument("request_id", type=int, metavar="REQUEST")
@click.option("--to", required=True, help="Whom you informed or answered, such as 4Seller.")
@click.option("--what", required=True, help="What you sent, without any name.")
def sent(request_id: int, to: str, what: str) -> None:
    """Record that you informed someone about a request, as Article 19 GDPR asks."""
    with shop_database() as (settings, database), database.writing() as connection:
        note_sent(connection, request_id, to=to, what=what, by=actor(settings))
    answer({"request": request_id, "sent_to": to}, f"Request {request_id}: sent to {to}.")

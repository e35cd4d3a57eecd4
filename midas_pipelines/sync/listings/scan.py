"""The scan: finds every item whose desired state differs from the acknowledged one, in chunks of constant memory.

It finds what triggers missed: changes made while they were not installed. It marks such items dirty; `push.py` pushes
them. Changes on 4Seller itself are found by `reconcile/`, which counts what it has compared already.

An approved plan is what a scan would send, written to a file: a person reads it, approves it, and exactly that plan is
applied. Its hash covers every step. Applying computes the steps again and refuses a plan that is out of date; a step that
changes between that check and its sending is not sent.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from midas_pipelines.errors import WrongInput
from midas_pipelines.store.database import Database
from midas_pipelines.store.items.mappings import CHUNK, COLUMNS, Mapping, mark_dirty, slices
from midas_pipelines.store.items.shards import Shards
from midas_pipelines.store.schema.tables import WAS_LISTED, mappings
from midas_pipelines.store.schema.version import require_columns
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.listings.plan import Action, Change, Planner

MOST_NAMED = 10


@dataclass
class Scanned:
    """Counts of a scan."""

    items: int = 0
    quarantined: int = 0  # by our own rules now, or by 4Seller before
    to_push: int = 0

    def count(self, change: Change) -> None:
        """Adds an item that needs this change."""
        if not is_item(change):
            return
        aside = change.action is Action.QUARANTINED or (change.writes and not waits(change))
        self.items += 1
        self.quarantined += aside
        self.to_push += change.writes and not aside


def scan(database: Database, scanned: Scanned, *, title_limit: int, ids: Sequence[int]) -> None:
    """Compares these items, counts them in `scanned`, and marks dirty what differs."""
    for changes in chunks(database, title_limit=title_limit, ids=ids):
        for change in changes:
            scanned.count(change)
        new = [change.mapping.id for change in changes if waits(change) and not change.mapping.dirty]
        if new:
            database.write(mark_dirty, new)


def chunks(
    database: Database,
    *,
    title_limit: int,
    ids: Sequence[int] | None = None,
    dirty_only: bool = False,
    listed_only: bool = False,
    shards: Shards | None = None,
) -> Iterator[list[Change]]:
    """The change that each item needs, a thousand items at a time, in the order of their mappings: of these `ids` and `shards`,
    of `dirty_only` those that wait to be pushed, of `listed_only` those on 4Seller, or gone missing there."""
    which: list[sa.ColumnElement[bool]] = []
    if dirty_only:
        which.append(mappings.c.dirty_since.is_not(None))
    if listed_only:
        which.append(WAS_LISTED)
    if shards is not None:
        which.append(shards.holds(mappings.c.id))
    for part in slices(ids):
        narrowed = which if part is None else [*which, mappings.c.id.in_(part)]
        for planner, rows in planners(database, *narrowed, title_limit=title_limit):
            yield [planner.plan(row) for row in rows]


def planners(
    database: Database, *which: sa.ColumnElement[bool], title_limit: int
) -> Iterator[tuple[Planner, list[Mapping]]]:
    """Such mappings, a thousand at a time in their order, each time with a planner for their items."""
    query, after = sa.select(*COLUMNS).where(*which).order_by(mappings.c.id).limit(CHUNK), 0
    while rows := [Mapping(*row.values()) for row in database.rows(query.where(mappings.c.id > after))]:
        after = rows[-1].id
        yield database.read(Planner, [row.key for row in rows], title_limit), rows


def is_item(change: Change) -> bool:
    """Whether the shop sells it, or 4Seller has it."""
    return change.action is not Action.NOTHING or change.draft is not None


def waits(change: Change) -> bool:
    """Whether the item has to go through a push: a write, or a quarantine that is not on record yet."""
    mapping = change.mapping
    if given_up(mapping):  # its quantity is still kept correct
        return mapping.fourseller_product_id is not None and mapping.acked_quantity != change.quantity
    if change.action is Action.QUARANTINED:
        return mapping.state != "quarantined" or mapping.reason != change.reason
    if change.action is Action.NOTHING:
        return change.draft is not None and mapping.state != "listed"
    return True


def given_up(mapping: Mapping) -> bool:
    """Whether 4Seller refused this version, or failed too often: a person or a change frees it."""
    return (
        mapping.state == "quarantined" and mapping.acked_version >= mapping.version and mapping.attempts > 0
    )


@dataclass(frozen=True, slots=True)
class PlanStep:
    """The planned step for one item. Money is USD as text."""

    item: int  # the mapping's id
    sku: str | None
    action: str
    quantity: int | None
    price: str | None
    content: str | None
    fourseller_product_id: str | None


@dataclass(frozen=True)
class ApprovedPlan:
    """Steps, when they were planned, and the hash over them. What else was seen when it was made is not kept with it:
    how many items were `scanned`, which of them are `unlisted`, each with its reason, and the `reasons` for steps, by item."""

    made_at: str
    steps: tuple[PlanStep, ...]
    scanned: int = 0
    unlisted: tuple[dict[str, object], ...] = ()
    reasons: dict[int, str] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """SHA-256 of the steps."""
        body = json.dumps([asdict(step) for step in self.steps], sort_keys=True)
        return hashlib.sha256(body.encode()).hexdigest()

    @property
    def rows(self) -> list[dict[str, object]]:
        """What a sync would do to each item, and why it would not list it."""
        sent: list[dict[str, object]] = [
            {
                "action": step.action,
                "sku": step.sku,
                "quantity": step.quantity,
                "reason": self.reasons.get(step.item),
            }
            for step in self.steps
        ]
        return [*sent, *self.unlisted]

    @property
    def counts(self) -> dict[str, int]:
        """The counts of a product sync, as they would be."""
        actions, quarantined = Counter(step.action for step in self.steps), len(self.unlisted)
        return {
            "scanned": self.scanned,
            "created": actions[Action.CREATE],
            "updated": actions[Action.UPDATE] + actions[Action.QUANTITY],
            "deleted": actions[Action.DELETE],
            "unchanged": self.scanned - len(self.steps) - quarantined,
            "quarantined": quarantined,
        }

    def write(self, path: Path) -> None:
        """Writes it as JSON."""
        whole = {"hash": self.hash, "made_at": self.made_at, "steps": [asdict(step) for step in self.steps]}
        path.write_text(json.dumps(whole, indent=1, ensure_ascii=False))


def plan_step(change: Change) -> PlanStep:
    """The change as a step."""
    mapping, draft = change.mapping, change.draft
    return PlanStep(
        item=mapping.id,
        sku=change.sku,
        action=change.action.value,
        quantity=change.quantity,
        price=str(draft.price) if draft is not None else None,
        content=change.content_hash,
        fourseller_product_id=mapping.fourseller_product_id,
    )


def make_plan(
    context: SyncContext, *, dirty_only: bool = False, ids: list[int] | None = None
) -> ApprovedPlan:
    """What a sync would send, for every item, for the dirty ones or for `ids`; reads the database and nothing else."""
    context.database.read(require_columns)
    steps, unlisted, scanned = list[PlanStep](), list[dict[str, object]](), 0
    reasons: dict[int, str] = {}
    for changes in chunks(
        context.database, title_limit=context.settings.title_limit, ids=ids, dirty_only=dirty_only
    ):
        scanned += sum(is_item(change) for change in changes)
        steps += [plan_step(change) for change in changes if change.writes]
        reasons |= {one.mapping.id: one.reason for one in changes if one.writes and one.reason}
        aside = [change for change in changes if change.action is Action.QUARANTINED]
        unlisted += [
            {"action": one.action.value, "sku": one.sku, "quantity": None, "reason": one.reason}
            for one in aside
        ]
    made_at = datetime.now(UTC).isoformat(timespec="seconds")
    return ApprovedPlan(made_at, tuple(steps), scanned, tuple(unlisted), reasons)


def read_plan(path: Path) -> ApprovedPlan:
    """The plan in a file. Raises WrongInput where it is not a plan, or was edited."""
    try:
        whole: dict[str, Any] = json.loads(path.read_text())
        plan = ApprovedPlan(whole["made_at"], tuple(PlanStep(**step) for step in whole["steps"]))
        agreed = whole["hash"]
    except (OSError, ValueError, KeyError, TypeError) as trouble:
        raise WrongInput(f"{path.name} is not a readable plan: {type(trouble).__name__}.") from None
    if plan.hash != agreed:
        raise WrongInput(f"{path.name} was changed after it was written: make a new plan with --plan.")
    return plan


def still_holds(context: SyncContext, plan: ApprovedPlan) -> None:
    """Raises WrongInput, naming the changed items, unless planning the same items now gives the same steps."""
    now = {step.item: step for step in make_plan(context, ids=[step.item for step in plan.steps]).steps}
    moved = [step for step in plan.steps if now.get(step.item) != step]
    if moved:
        names = ", ".join(str(step.sku) for step in moved[:MOST_NAMED])
        more = f" and {len(moved) - MOST_NAMED} more" if len(moved) > MOST_NAMED else ""
        raise WrongInput(
            f"The plan made at {plan.made_at} is out of date: {names}{more} have changed. "
            "Nothing was sent. Make a new plan with --plan."
        )


def only_approved(change: Change, agreed: dict[int, PlanStep]) -> Change:
    """The change, or a wait where it differs from the approved one."""
    if not change.writes or agreed.get(change.mapping.id) == plan_step(change):
        return change
    return Change(
        change.mapping,
        Action.WAIT,
        reason="It changed while the plan was being applied; the next sync handles it.",
    )

"""An approved plan: a person reads it, approves it, and exactly that plan is applied.

Its hash covers every step. Applying computes the steps again and refuses a plan that is out of date; a step that changes
between that check and its sending is not sent.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from midas_pipelines.errors import WrongInput
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.listings.plan import Action, Change
from midas_pipelines.sync.listings.scan import chunks

MOST_NAMED = 10


class PlanRefused(WrongInput):
    """A plan that cannot be applied; the message has the reason and what to do."""


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
    """Steps, when they were planned, and the hash over them."""

    made_at: str
    steps: tuple[PlanStep, ...]

    @property
    def hash(self) -> str:
        """SHA-256 of the steps."""
        body = json.dumps([asdict(step) for step in self.steps], sort_keys=True)
        return hashlib.sha256(body.encode()).hexdigest()

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
    steps: list[PlanStep] = []
    for changes in chunks(
        context.database, title_limit=context.settings.title_limit, ids=ids, dirty_only=dirty_only
    ):
        steps += [plan_step(change) for change in changes if change.writes]
    return ApprovedPlan(datetime.now(UTC).isoformat(timespec="seconds"), tuple(steps))


def read_plan(path: Path) -> ApprovedPlan:
    """The plan in a file. Raises PlanRefused where it is not a plan, or was edited."""
    try:
        whole: dict[str, Any] = json.loads(path.read_text())
        plan = ApprovedPlan(whole["made_at"], tuple(PlanStep(**step) for step in whole["steps"]))
        agreed = whole["hash"]
    except (OSError, ValueError, KeyError, TypeError) as trouble:
        raise PlanRefused(f"{path.name} is not a readable plan: {type(trouble).__name__}.") from None
    if plan.hash != agreed:
        raise PlanRefused(f"{path.name} was changed after it was written: make a new plan with --plan.")
    return plan


def still_holds(context: SyncContext, plan: ApprovedPlan) -> None:
    """Raises PlanRefused, naming the changed items, unless planning the same items now gives the same steps."""
    now = {step.item: step for step in make_plan(context, ids=[step.item for step in plan.steps]).steps}
    moved = [step for step in plan.steps if now.get(step.item) != step]
    if moved:
        names = ", ".join(str(step.sku) for step in moved[:MOST_NAMED])
        more = f" and {len(moved) - MOST_NAMED} more" if len(moved) > MOST_NAMED else ""
        raise PlanRefused(
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

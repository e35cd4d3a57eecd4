"""Shadow mode for items: a change is recorded as it would be sent, and waits as it is, with nothing acknowledged or cleared."""

from __future__ import annotations

from dataclasses import replace

from midas_pipelines.store.operations.shadow import ShadowRow
from midas_pipelines.sync.context import SyncContext
from midas_pipelines.sync.gate import SHADOWED, WORKFLOW_OF
from midas_pipelines.sync.listings.plan import Action, Change


def in_shadow(change: Change, context: SyncContext) -> Change:
    """The change, or a wait where shadow mode keeps its kind from leaving; what it would send is recorded."""
    kind = "quantity" if change.action is Action.QUANTITY else "listing"
    if not change.writes or not context.settings.shadows(WORKFLOW_OF[kind]):
        return change
    content = {} if change.draft is None else change.draft.model_dump(mode="json", exclude_none=True)
    if kind == "quantity":
        content = {"quantity": change.quantity}
    context.gate.keep(ShadowRow(kind, change.sku or str(change.mapping.id), change.action.value, content))
    return replace(change, action=Action.WAIT, reason=SHADOWED)

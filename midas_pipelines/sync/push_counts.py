"""Counting what a sync did, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass, field

from midas_pipelines.store.items.claims import PushOutcome, PushResult

BRAKED = "The brake is on: too many items at once would be zeroed, removed, repriced or relisted."


@dataclass
class PushCounts:
    """Counts of one push; every claimed item is counted once."""

    claimed: int = 0
    created: int = 0
    adopted: int = 0
    updated: int = 0
    pushed: int = 0  # quantities alone
    deleted: int = 0
    unchanged: int = 0
    quarantined: int = 0
    unexpected: int = 0  # of those set aside, the ones that no scan could know: refused, or sharing a SKU
    failed: int = 0
    released: int = 0
    held: int = 0  # released because the brake is on
    held_items: list[dict[str, str]] = field(default_factory=list)  # the first of them
    problems: list[dict[str, str]] = field(default_factory=list)  # a preview: the first of them

    def count(self, outcome: PushOutcome, sku: str | None = None) -> None:
        """Adds one item's end; `sku` names it where its mapping holds none yet."""
        self.claimed += 1
        self.unexpected += outcome.unexpected
        match outcome.result:
            case PushResult.LISTED if outcome.created:
                self.created += 1
            case PushResult.LISTED:
                self.adopted += outcome.adopted
                self.updated += outcome.wrote
                self.unchanged += not outcome.wrote
            case PushResult.QUANTITY if outcome.refused:
                self.quarantined += 1
            case PushResult.QUANTITY:
                self.pushed += 1
            case PushResult.REMOVED:
                self.deleted += outcome.wrote
                self.unchanged += not outcome.wrote
            case PushResult.UNCHANGED:
                self.unchanged += 1
            case PushResult.QUARANTINED:
                self.quarantined += 1
            case PushResult.FAILED:
                self.failed += 1
            case PushResult.RELEASED if outcome.reason == BRAKED:
                self.held += 1
                if len(self.held_items) < PREVIEW:
                    self.held_items.append({"sku": sku or outcome.mapping.sku or "", "reason": BRAKED})
            case PushResult.RELEASED:
                self.released += 1
        shown = outcome.refused or outcome.result in (PushResult.QUARANTINED, PushResult.FAILED)
        if outcome.reason and shown and len(self.problems) < PREVIEW:
            self.problems.append(
                {
                    "sku": sku or outcome.mapping.sku or "",
                    "result": outcome.result.value,
                    "reason": outcome.reason,
                }
            )


PREVIEW = 20
"""Rows in a preview table."""

"""Counting what a sync did, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass, field

from midas_pipelines.store.claims import Fate, Outcome

BRAKED = "The brake is on: too many items at once would be zeroed, removed, repriced or relisted."


@dataclass
class Tally:
    """Counts of one push; every claimed item is counted once."""

    claimed: int = 0
    created: int = 0
    adopted: int = 0
    updated: int = 0
    pushed: int = 0  # quantities alone
    deleted: int = 0
    unchanged: int = 0
    set_aside: int = 0
    unforeseen: int = 0  # of those set aside, the ones that no scan could know: refused, or sharing a SKU
    failed: int = 0
    released: int = 0
    held: int = 0  # released because the brake is on
    held_items: list[dict[str, str]] = field(default_factory=list)  # the first of them
    problems: list[dict[str, str]] = field(default_factory=list)  # a preview: the first of them

    def count(self, outcome: Outcome, sku: str | None = None) -> None:
        """Adds one item's end; `sku` names it where its mapping holds none yet."""
        self.claimed += 1
        self.unforeseen += outcome.unforeseen
        match outcome.fate:
            case Fate.LISTED if outcome.created:
                self.created += 1
            case Fate.LISTED:
                self.adopted += outcome.adopted
                self.updated += outcome.wrote
                self.unchanged += not outcome.wrote
            case Fate.QUANTITY if outcome.refused:
                self.set_aside += 1
            case Fate.QUANTITY:
                self.pushed += 1
            case Fate.REMOVED:
                self.deleted += outcome.wrote
                self.unchanged += not outcome.wrote
            case Fate.UNCHANGED:
                self.unchanged += 1
            case Fate.SET_ASIDE:
                self.set_aside += 1
            case Fate.FAILED:
                self.failed += 1
            case Fate.RELEASED if outcome.reason == BRAKED:
                self.held += 1
                if len(self.held_items) < PREVIEW:
                    self.held_items.append({"sku": sku or outcome.mapping.sku or "", "reason": BRAKED})
            case Fate.RELEASED:
                self.released += 1
        told = outcome.refused or outcome.fate in (Fate.SET_ASIDE, Fate.FAILED)
        if outcome.reason and told and len(self.problems) < PREVIEW:
            self.problems.append(
                {
                    "sku": sku or outcome.mapping.sku or "",
                    "fate": outcome.fate.value,
                    "reason": outcome.reason,
                }
            )


PREVIEW = 20
"""Rows in a preview table."""

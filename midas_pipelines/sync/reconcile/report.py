"""What a reconciliation saw and did: counts, the share of items shown as they should be, and the worst differences."""

from __future__ import annotations

from dataclasses import dataclass, field

from midas_pipelines.store.items.acknowledge import PREVIEW
from midas_pipelines.store.items.mappings import Mapping
from midas_pipelines.sync.listings.diff import Difference
from midas_pipelines.sync.reconcile.decide import CHANGING, DIFFERING, EQUAL, NOT_SEEN, Decision

HINTS = {
    "manual": "Waits for a person: `midas conflicts list`.",
    "marketplace_wins": "4Seller's value is taken, by policy.",
    "source_wins": "Somebody changed it on 4Seller: the shop's value is pushed again, by policy.",
}
OVERDUE = "A push is overdue: it is sent now. See `midas status` when it stays."


@dataclass
class ReconcileReport:
    """The counts of a reconciliation; items, unless named otherwise.

    `consistency` is the share of items that 4Seller showed as they should be, of those that it showed or should have;
    None when none could be judged.
    """

    scanned: int = 0
    listed: int = 0  # products that 4Seller has, ours or not
    equal: int = 0
    changing: int = 0  # changed in the shop, or confirmed since the read; no discrepancy
    not_seen: int = 0  # in no row that could be read, or in one without price or quantity
    discrepancies: int = 0
    resolved: int = 0  # conflicts
    open_conflicts: int = 0
    differing: dict[str, int] = field(default_factory=dict)  # by the field that differs
    orphans: int = 0  # on 4Seller under no item's name, but for those that a person left there
    consistency: float | None = None
    complete: bool = True
    pushed: int = 0
    failed: int = 0
    requests: int = 0
    seconds: float = 0.0
    worst: list[dict[str, str]] = field(default_factory=list)
    above: list[dict[str, str]] = field(default_factory=list)  # offered in a quantity that is not there
    doubled: list[dict[str, str]] = field(default_factory=list)  # more than one product of their SKU
    orphan_rows: list[dict[str, str]] = field(default_factory=list)  # the first of `orphans`, by name
    stopped: str | None = None  # why what the shop wins was not pushed: the brake
    note: str | None = None  # why some quantities were not judged
    sale_requests: int = 0  # those of the import of orders

    def leave_open(self, items: int) -> None:
        """Counts items that cannot be judged now."""
        self.scanned += items
        self.changing += items

    def count_equal(self, items: int) -> None:
        """Counts items that are as they should be."""
        self.scanned += items
        self.equal += items
        judged = self.equal + self.discrepancies
        self.consistency = round(self.equal / (judged + self.not_seen), 6) if judged else None

    def count(self, row: Mapping, decision: Decision, products: int) -> None:
        """Counts an item, of whose SKU 4Seller shows that many products."""
        self.scanned += decision.outcome != EQUAL
        self.changing += decision.outcome == CHANGING
        self.not_seen += decision.outcome == NOT_SEEN
        self.discrepancies += decision.outcome == DIFFERING
        if products > 1:
            sku = row.sku or ""
            self.doubled.append({"sku": sku, "expected": "1 product", "4Seller": f"{products} products"})
        if decision.outcome == DIFFERING:
            for one in decision.differences:
                self._show(row, decision, one)
        self.count_equal(int(decision.outcome == EQUAL))

    def _show(self, row: Mapping, decision: Decision, one: Difference) -> None:
        policies = {found.policy for found in decision.conflicts if found.difference.field == one.field}
        shown = {
            "sku": decision.change.sku or row.sku or "",
            "field": one.field,
            "shop": one.shop,
            "4Seller": one.fourseller,
            "hint": next((hint for policy, hint in HINTS.items() if policy in policies), OVERDUE),
        }
        self.differing[one.field] = self.differing.get(one.field, 0) + 1
        if self.differing[one.field] <= PREVIEW:  # so that no kind crowds out another
            self.worst.append(shown)
        if one.field == "quantity" and one.seen and int(one.fourseller) > int(one.shop):
            self.above.append(shown)

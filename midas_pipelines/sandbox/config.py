"""Start options of a sandbox; most can be changed at run time through `/__sandbox`."""

from dataclasses import dataclass, field

from midas_pipelines.sandbox.habits import checked_habits

# The kinds that `fault_rate` is divided among. Left out are 429 (a rate limit is its own knob, and one 429 rightly makes a
# client pause everything) and timeout and slow (they measure patience, not recovery).
MIX = ("500", "503", "reset-before", "reset-after-apply", "garbage", "truncated")
FAULT_KINDS = (*MIX, "429", "timeout", "slow")


@dataclass
class SandboxConfig:
    """How a sandbox behaves. Times are in the unit their name says; shares are between 0 and 1."""

    api_key: str = "sandbox-key"
    seller_id: str = "sandbox-seller"
    latency_ms: float = 0.0
    jitter_ms: float = 0.0
    rate_limit: float | None = None  # requests a second; None for no limit
    burst: int | None = None  # requests above the rate taken at once; None for a tenth of a second's worth
    faults: dict[str, float] = field(default_factory=dict)  # share of calls by kind
    fault_rate: float = 0.0  # shortcut: this share of calls, spread over MIX
    habits: dict[str, float] = field(default_factory=dict)  # what `habits` names, with their numbers
    slow_seconds: float = 2.0
    timeout_seconds: float = 120.0  # how long a call that times out is left hanging
    honour_idempotency_key: bool = True
    unique_skus: bool = False  # 409 for a SKU that exists; 4Seller does not promise it
    state_file: str | None = None
    webhook_url: str | None = None
    webhook_secret: str | None = None
    webhook_duplicates: float = 0.0  # share of webhooks delivered twice
    webhook_reorder: float = 0.0  # share of webhooks held back so that later ones overtake
    webhook_retries: int = 5
    shoppers_rate: float = 0.0  # actions a second; 0 for none
    seed: int | None = None

    def __post_init__(self) -> None:
        spread = {kind: self.fault_rate / len(MIX) for kind in MIX if self.fault_rate}
        self.faults = checked_faults(spread | self.faults)
        self.habits = checked_habits(self.habits)


def checked_faults(faults: dict[str, float]) -> dict[str, float]:
    """The faults as given. Raises ValueError, in a sentence, for an unknown kind or shares beyond 1."""
    for kind, share in faults.items():
        if kind not in FAULT_KINDS:
            raise ValueError(f"there is no fault {kind!r}; known are {', '.join(FAULT_KINDS)}")
        if not isinstance(share, int | float) or isinstance(share, bool) or not 0 <= share <= 1:
            raise ValueError(f"the share of {kind} must be between 0 and 1")
    if sum(faults.values()) > 1 + 1e-9:
        raise ValueError("the shares of all faults together must not pass 1")
    return dict(faults)

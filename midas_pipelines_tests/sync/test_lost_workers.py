"""Workers and syncs of the command line that are killed, frozen and cut off: both sides are equal at the end."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess

import pytest

from midas_pipelines.cli import main
from midas_pipelines.store.items.claims import LEASE_SECONDS
from midas_pipelines.store.stock.ledger import negative_stock, unexplained_stock
from midas_pipelines_tests.shop import add_product, rows, run, value
from midas_pipelines_tests.sync.world import World

pytestmark = pytest.mark.both_databases

CUT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
LATE = "SELECT count(*) FROM fourseller_product_mappings WHERE recheck_at IS NOT NULL"
END_LATE = (
    "UPDATE fourseller_product_mappings SET recheck_at = '2000-01-01 00:00:00' WHERE recheck_at IS NOT NULL"
)
SLOW_SECONDS = 0.3
SYNCS = (["products", "--full"], ["products"], ["inventory"])

_context = get_context("forkserver")
_context.set_forkserver_preload(
    [__name__, "midas_pipelines.gateway.service", "midas_pipelines.sync.product_sync"]
)


def midas(world: World, *arguments: str) -> ForkServerProcess:
    """The command line in a process of its own."""
    settings = world.settings
    assert settings.fourseller_api_key is not None
    environment = {
        "MIDAS_DATABASE_URL": world.database.engine.url.render_as_string(hide_password=False),
        "FOURSELLER_API_URL": settings.fourseller_api_url,
        "FOURSELLER_API_KEY": settings.fourseller_api_key.get_secret_value(),
        "FOURSELLER_SELLER_ID": str(settings.fourseller_seller_id),
        "MIDAS_IN_FLIGHT": "8",
        "MIDAS_LIST_LAG_SECONDS": "0",
        "MIDAS_BRAKE_PERCENT": "100",
    }
    process = _context.Process(target=_run, args=(environment, arguments), daemon=True)
    process.start()
    return process


def _run(environment: dict[str, str], arguments: tuple[str, ...]) -> None:
    os.environ.update(environment)
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    sys.argv = ["midas", *arguments]
    main()


class Havoc:
    """A shop that sells and what befalls its workers; the same seed draws the same things.

    Args:
        world: empty.
        seed: of the draws.
        patient: waits for leases and late writes to end by themselves, instead of ending them in the database.
    """

    def __init__(self, world: World, seed: int, *, patient: bool) -> None:
        self.world, self.chance, self.patient = world, random.Random(seed), patient
        self.items = [add_product(world.database) for _ in range(20)]
        self.counts: Counter[str] = Counter()
        self.acked: dict[int, int] = {}
        self.frozen: list[ForkServerProcess] = []
        self.syncs: list[ForkServerProcess] = []
        world.changes |= {"brake_percent": 100}
        world.sandbox.state.honour_idempotency_key = False
        world.sandbox.faults.timeout_seconds = world.sandbox.faults.slow_seconds = SLOW_SECONDS
        world.full()
        self.workers = [midas(world, "worker") for _ in range(2)]

    def round(self) -> None:
        """Sales and edits under some trouble of 4Seller's, and one blow."""
        draw, world = self.chance, self.world
        world.habits(*draw.choice([(), ("late-writes=0.5",), ("older-quantities-refused",)]))
        kinds = ("reset-after-apply", "timeout", "slow", "500")
        world.sandbox.faults.set({kind: draw.choice([0, 0, 0.1]) for kind in kinds})
        for _ in range(draw.randint(3, 15)):
            world.set(draw.choice(self.items), stock_quantity=draw.randint(0, 99))
            time.sleep(draw.uniform(0, 0.02))
        blow = draw.choice([self.kill, self.freeze, self.thaw, self.cut, self.sync, self.end_leases])
        self.counts[blow.__name__] += 1
        blow()
        self.look()

    def look(self) -> None:
        """No acknowledged version has fallen, and no SKU is there twice."""
        for key, version in rows(
            self.world.database, "SELECT id, acked_version FROM fourseller_product_mappings"
        ):
            assert version >= self.acked.get(key, 0), f"the acknowledged version of {key} fell"
            self.acked[key] = version
        assert self.world.listed

    def kill(self) -> None:
        """One worker dies, and another takes its place."""
        dead = self.workers.pop(self.chance.randrange(len(self.workers)))
        dead.kill()
        dead.join()
        self.frozen = [one for one in self.frozen if one is not dead]
        self.workers.append(midas(self.world, "worker"))

    def freeze(self) -> None:
        """One worker stands still; on SQLite it could hold the only write lock for as long."""
        if self.world.database.is_postgresql and not self.frozen:
            self.frozen.append(self.chance.choice(self.workers))
            _signal(self.frozen[0], signal.SIGSTOP)

    def thaw(self) -> None:
        """What stood still goes on after its lease has ended and others have taken its items."""
        if self.frozen:
            self.end_leases()
        while self.frozen:
            _signal(self.frozen.pop(), signal.SIGCONT)

    def cut(self) -> None:
        """Every session with the database is cut."""
        if self.world.database.is_postgresql:
            rows(self.world.database, CUT)

    def sync(self) -> None:
        """A command beside the workers, which may be killed on its way."""
        process = midas(self.world, "sync", *self.chance.choice(SYNCS))
        self.syncs.append(process)
        if self.chance.random() < 0.6:
            time.sleep(self.chance.uniform(0, 0.5))
            process.kill()

    def end_leases(self) -> None:
        """Every worker's lease ends."""
        if self.patient:
            time.sleep(LEASE_SECONDS + 2 if self.frozen else 0)
        else:
            run(self.world.database, "DELETE FROM midas_workers")
            time.sleep(0.2)

    def settle(self, seconds: float) -> None:
        """Ends all trouble and waits until the workers have nothing left to do."""
        self.thaw()
        # One whose session is cut while it starts ends with a sentence, and is started again by who supervises it.
        self.workers = [one if one.is_alive() else midas(self.world, "worker") for one in self.workers]
        self.world.faults()
        self.world.habits()
        for process in self.syncs:
            process.join(30)
        time.sleep(SLOW_SECONDS)  # what is late arrives
        until = time.monotonic() + seconds
        while time.monotonic() < until and (self.world.dirty or value(self.world.database, LATE)):
            if not self.patient:
                run(self.world.database, END_LATE)
            time.sleep(0.3)

    def stop(self) -> None:
        """Ends every process."""
        for process in self.workers + self.syncs:
            process.kill()
            process.join()


def _signal(process: ForkServerProcess, number: int) -> None:
    assert process.pid is not None
    with suppress(ProcessLookupError):  # its session was cut, so it has ended by itself
        os.kill(process.pid, number)


def havoc(world: World, seed: int, *, rounds: int, patient: bool) -> None:
    """One history, drawn from its seed."""
    met = Havoc(world, seed, patient=patient)
    try:
        for _ in range(rounds):
            met.round()
        met.settle(120 if patient else 30)
    finally:
        met.stop()
    assert world.shown == world.wanted, met.counts
    assert negative_stock(world.database) == unexplained_stock(world.database) == []


@pytest.mark.parametrize("seed", [1])
def test_workers_killed_frozen_and_cut_off_end_equal(world: World, seed: int) -> None:
    if (
        world.database.is_postgresql
    ):  # SQLite can neither freeze nor cut one: `test_kills.py` has what is left
        havoc(world, seed, rounds=3, patient=False)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(200, 210))
def test_long_histories_of_lost_workers_end_equal(world: World, seed: int) -> None:
    havoc(world, seed, rounds=40, patient=True)

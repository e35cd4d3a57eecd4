"""Compares the database's and 4Seller's clock with this machine's, and raises an alert where they differ."""

from __future__ import annotations

from datetime import timedelta

from midas_pipelines.notify.alerts import clear_alert, open_subjects, raise_alert
from midas_pipelines.store.database import Database
from midas_pipelines.store.operations.cursors import database_ahead, keep_clock, read_clocks

CLOCK_APART = "clock_apart"
APART_SECONDS = 60.0
"""From here on there is an alert: 4Seller's webhooks are refused at five minutes."""
MOVED_SECONDS = 2.0
"""A date of 4Seller's is in whole seconds; what moves by less is noise."""


def note_clocks(database: Database, fourseller_ahead: float | None) -> dict[str, float]:
    """Stores how many seconds each clock is ahead of this machine's, and raises or clears the alert of each.

    Args:
        database: the shop's.
        fourseller_ahead: as 4Seller's answers were dated; None where none was.
    """
    found = {"database": database_ahead(database)}
    if fourseller_ahead is not None:
        found["4Seller"] = fourseller_ahead
    with database.reading() as connection:
        kept, alerted = read_clocks(connection), open_subjects(connection, CLOCK_APART)
    moved = {whose for whose, ahead in found.items() if abs(ahead - kept.get(whose, -1e9)) >= MOVED_SECONDS}
    if not moved:  # checked every few seconds, and mostly there is nothing to write
        return found
    with database.writing() as connection:
        for whose in sorted(moved):
            ahead = found[whose]
            keep_clock(connection, whose, ahead)
            if abs(ahead) >= APART_SECONDS:
                raise_alert(connection, kind=CLOCK_APART, subject=whose, text=_sentence(whose, ahead))
            elif whose in alerted:
                clear_alert(connection, kind=CLOCK_APART, subject=whose)
    return found


def _sentence(whose: str, ahead: float) -> str:
    owner = "the database" if whose == "database" else whose
    return (
        f"The clock of {owner} is {abs(ahead):.0f} seconds {'ahead of' if ahead > 0 else 'behind'} this machine's. At five "
        "minutes 4Seller's webhooks are refused. Set the clocks by NTP."
    )


def hub_ahead(database: Database) -> timedelta:
    """How far 4Seller's clock is ahead of the database's, as last measured; nothing where they differ by seconds."""
    with database.reading() as connection:
        clocks = read_clocks(connection)
    ahead = clocks.get("4Seller", 0.0) - clocks.get("database", 0.0)
    return timedelta(seconds=ahead + MOVED_SECONDS) if abs(ahead) > MOVED_SECONDS else timedelta()

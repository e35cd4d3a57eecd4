"""`midas reconcile` says in sentences what it could judge."""

from __future__ import annotations

from midas_pipelines.cli.stock.conflicts import consistency_sentence


def test_what_could_not_be_read_is_a_sentence() -> None:
    away = "4Seller could not be read whole, so consistency was not judged."
    assert consistency_sentence(None, unread=True) == away
    assert (
        consistency_sentence(None, unread=False)
        == "No item could be compared, so consistency was not judged."
    )
    assert consistency_sentence(0.9964, unread=False) == "Consistency is 99.64%."
    assert (
        consistency_sentence(1.0, unread=True) == "Consistency is 100.00%, of what could be read of 4Seller."
    )

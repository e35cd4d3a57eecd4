"""A database that goes away while a command runs: one sentence and exit code 1, never a traceback."""

from __future__ import annotations

import psycopg
import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from midas_pipelines.cli import cli
from midas_pipelines.cli.opening import database_error_text
from midas_pipelines.store.database import Database

AWAY = sa.exc.OperationalError(
    "SELECT 'Sample Buyer'", {}, psycopg.OperationalError("server closed: Sample Buyer")
)


def away(*_: object, **__: object) -> None:
    raise AWAY


@pytest.mark.parametrize(
    "command", [["status"], ["orders", "list"], ["alerts", "list"], ["webhooks", "list"]]
)
def test_a_command_says_one_sentence(
    sqlite_shop: Database, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    reads = []

    def once(self: Database) -> object:
        reads.append(1)
        if len(reads) > 2:  # opened and found prepared
            away()
        return real(self)

    real = Database.reading
    monkeypatch.setattr(Database, "reading", once)
    monkeypatch.setenv("MIDAS_DATABASE_URL", sqlite_shop.engine.url.render_as_string(hide_password=False))
    ended = CliRunner().invoke(cli, command)
    assert (ended.exit_code, ended.exception.__class__) == (1, SystemExit)
    assert ended.stderr.startswith("Error: The database does not answer any more")
    assert "Sample Buyer" not in ended.output
    assert "Traceback" not in ended.output


def test_a_run_that_loses_the_database_says_the_same(
    sqlite_shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("midas_pipelines.sync.product_sync.push_inventory", away)
    monkeypatch.setenv("MIDAS_DATABASE_URL", sqlite_shop.engine.url.render_as_string(hide_password=False))
    monkeypatch.setenv("FOURSELLER_API_KEY", "k")
    monkeypatch.setenv("FOURSELLER_SELLER_ID", "s")
    ended = CliRunner().invoke(cli, ["sync", "inventory"])
    assert ended.exit_code == 1
    assert "The database does not answer any more" in ended.output
    assert "Sample Buyer" not in ended.output


@pytest.mark.parametrize(
    ("error", "known"),
    [
        (AWAY, True),
        (sa.exc.TimeoutError("the pool"), True),
        (psycopg.OperationalError("x"), True),
        (ExceptionGroup("both", [ValueError("x"), AWAY]), True),
        (ValueError("x"), False),
        (OSError("x"), False),
    ],
)
def test_what_is_a_databases_trouble(error: Exception, known: bool) -> None:
    assert (database_error_text(error) is not None) is known

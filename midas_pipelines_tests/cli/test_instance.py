"""Dagster's own settings and storage: the right file for the environment, and the whole demo on PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import yaml

from midas_pipelines_tests.cli.conftest import Midas
from midas_pipelines_tests.conftest import empty
from midas_pipelines_tests.copies import PostgresCopies, connect
from midas_pipelines_tests.shop import rows


def test_history_is_kept_in_files_unless_postgresql_is_named(midas: Midas, tmp_path: Path) -> None:
    ended = midas(
        "instance", "prepare", "--json", DAGSTER_HOME=str(tmp_path / "home"), MIDAS_SHARDS_AT_ONCE="7"
    )
    assert ended.code == 0, ended.errors
    assert ended.json["storage"] == "sqlite"
    written = yaml.safe_load(Path(ended.json["file"]).read_text())
    assert "storage" not in written
    assert written["run_retries"] == {
        "enabled": True,
        "max_retries": 2,
        "retry_on_asset_or_op_failure": False,
    }


def test_without_a_home_it_says_what_to_set(midas: Midas) -> None:
    ended = midas("instance", "prepare")
    assert (ended.code, "DAGSTER_HOME is not set" in ended.errors) == (2, True)


def test_another_driver_than_dagsters_is_refused(midas: Midas, tmp_path: Path) -> None:
    url = "postgresql+psycopg://dagster:secret@host/dagster"
    ended = midas("instance", "prepare", DAGSTER_HOME=str(tmp_path), MIDAS_DAGSTER_POSTGRES_URL=url)
    assert ended.code == 2
    assert "MIDAS_DAGSTER_POSTGRES_URL must begin with postgresql://" in ended.errors
    assert "secret" not in ended.errors


def test_a_run_is_kept_in_postgresql_where_that_is_named(
    midas: Midas, settings: dict[str, str], postgresql_copies: PostgresCopies, tmp_path: Path
) -> None:
    history = postgresql_copies.fresh(empty)
    named = {"MIDAS_DAGSTER_POSTGRES_URL": history.replace("+psycopg", ""), "DAGSTER_HOME": str(tmp_path)}
    assert midas("instance", "prepare", **named).code == 0
    synced = midas("sync", "inventory", "--json", **settings, **named)
    with connect(history) as database:
        kept = rows(database, "SELECT run_id FROM runs WHERE status = 'SUCCESS'")
    assert kept == [(synced.json["run_id"],)]


def test_workflows_say_what_runs_by_itself(midas: Midas) -> None:
    ended = midas("workflows", "--json", MIDAS_SCHEDULES="true", MIDAS_PAUSED="full_sync")
    on = {entry["workflow"]: entry["on"] for entry in ended.json["workflows"]}
    assert (on["full_sync"], on["order_import"]) == (False, True)


def test_what_is_made_belongs_to_this_user_alone(midas: Midas, tmp_path: Path) -> None:
    home, shop = tmp_path / "home", tmp_path / "shop.db"
    home.mkdir(mode=0o755)
    assert midas("instance", "prepare", DAGSTER_HOME=str(home)).code == 0
    assert midas("store", "seed", "--products", "5", MIDAS_DATABASE_URL=f"sqlite:///{shop}").code == 0
    assert (home.stat().st_mode & 0o777, shop.stat().st_mode & 0o777) == (0o700, 0o600)
    open_to_others = [path for path in home.rglob("*") if path.stat().st_mode & 0o077]
    assert open_to_others == []


def test_a_password_in_the_query_of_the_url_is_not_shown(midas: Midas) -> None:
    url = "postgresql://midas@127.0.0.1:1/shop?password=hunter2&sslpassword=hunter3"
    ended = midas("status", MIDAS_DATABASE_URL=url)
    assert (ended.code, "cannot be opened" in ended.errors) == (2, True)
    assert "hunter" not in ended.errors + ended.output

"""Backups in a bucket, old ones that go, and Dagster's own storage in them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from midas_pipelines.errors import WrongInput
from midas_pipelines.recovery.backup import create_backup, verify_backup
from midas_pipelines.recovery.places import backup_place, backups, find_backup, kept, thin_out
from midas_pipelines.recovery.restore import restore_history, restore_shop
from midas_pipelines.recovery.sealing import identities
from midas_pipelines.settings import SettingsError, load_settings
from midas_pipelines_tests.conftest import empty
from midas_pipelines_tests.copies import Copies, PostgresCopies, connect, fresh_database
from midas_pipelines_tests.shop import rows, value
from midas_pipelines_tests.sync.world import World


def test_a_bucket_holds_backups_as_a_folder_does(
    safe: World, copies: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = f"vault-{safe.database.engine.name}"  # the server keeps buckets as long as the process
    from moto.server import ThreadedMotoServer  # loads for half a second

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        safe.changes |= {"backup_to": f"s3://{bucket}/midas", "backup_s3_url": f"http://{host}:{port}"}
        place = backup_place(safe.settings)
        place.fs.mkdir(bucket)
        made = create_backup(safe.settings, safe.database, "ann")
        assert verify_backup(safe.settings, None)[0] == made.name
        backup = find_backup(safe.settings, made.name)
        with fresh_database(copies, empty) as lost:
            restore_shop(backup, lost.engine.url)
            assert rows(lost, "SELECT sku FROM products ORDER BY sku") == [("A",), ("B",)]
        (backup.folder / "manifest.json").write_text("{}")
        place.fs.invalidate_cache()
        assert backups(place) == []
        assert thin_out(place, 28) == 0  # it may be in the making still
    finally:
        server.stop()


def test_dagsters_storage_comes_back_without_its_keys(safe: World, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "history").mkdir(parents=True)
    (home / "dagster.yaml").write_text("x: 1")
    (home / "payload-key").write_text("secret")
    with connect(f"sqlite:///{home / 'history' / 'runs.db'}") as history, history.writing() as connection:
        connection.exec_driver_sql("CREATE TABLE runs (id)")
        connection.exec_driver_sql("INSERT INTO runs VALUES (7)")
    safe.changes["dagster_home"] = str(home)
    create_backup(safe.settings, safe.database, "ann")
    backup = find_backup(safe.settings, None)
    back = tmp_path / "back"
    assert restore_history(backup, database=None, home=back) == 2
    with connect(f"sqlite:///{back / 'history' / 'runs.db'}") as history:
        assert value(history, "SELECT id FROM runs") == 7
    assert not (back / "payload-key").exists()


def test_dagsters_database_comes_back(safe: World, postgresql_copies: PostgresCopies, tmp_path: Path) -> None:
    def stored(url: str) -> dg.DagsterInstance:
        home = tmp_path / url.rpartition("/")[2]
        home.mkdir(exist_ok=True)
        (home / "dagster.yaml").write_text(f"storage: {{postgres: {{postgres_url: '{url}'}}}}")
        return dg.DagsterInstance.from_config(str(home))

    storages = [postgresql_copies.fresh(empty).replace("+psycopg", "") for _ in range(2)]
    with stored(storages[0]) as instance:
        instance.add_dynamic_partitions("words", ["one", "two"])
    safe.changes["dagster_postgres_url"] = storages[0]
    create_backup(safe.settings, safe.database, "ann")
    backup, other = find_backup(safe.settings, None), load_settings(database_url=storages[1]).database()
    restore_history(backup, database=other, home=Path(str(safe.settings.backup_to)) / "home")
    with stored(storages[1]) as instance:
        instance.add_dynamic_partitions("words", ["three"])  # sequences go on
        assert instance.get_dynamic_partitions("words") == ["one", "two", "three"]
    with pytest.raises(WrongInput):
        restore_history(backup, database=other, home=Path("none"))
    for url in storages:
        postgresql_copies.drop(url)


@pytest.mark.parametrize("place", [__file__, f"{__file__}/below", "nosuch://bucket"])
def test_a_place_that_cannot_be_opened_and_a_file_without_a_key_are_wrong_settings(place: str) -> None:
    with pytest.raises(SettingsError, match="cannot be opened"):
        backup_place(load_settings(backup_to=place))
    with pytest.raises(SettingsError, match="holds no key"):
        identities(Path(__file__))


def test_old_backups_go_hourly_then_daily_then_weekly() -> None:
    now = datetime(2026, 11, 27, 12, tzinfo=UTC)
    hourly = [now - timedelta(hours=hours) for hours in range(24 * 40)]
    stay = kept(hourly, now, 28)
    ages = sorted((now - moment).days for moment in stay)
    assert len(stay) in range(32, 36)
    assert ages[-1] < 28


def test_what_was_cut_short_long_ago_is_removed(safe: World) -> None:
    made = create_backup(safe.settings, safe.database, "ann")
    place = backup_place(safe.settings)
    half = Path(str(place)) / "midas-20200101T000000.000000Z"
    half.mkdir()
    (half / "shop.x.copy.gz.age").write_text("x")
    assert thin_out(place, 28) == 1
    assert [folder.name for folder, _ in backups(place)] == [made.name]
    safe.changes["erase_buyers_after_days"] = "20,ebay=10"
    assert safe.settings.longest_backup_days() == 10

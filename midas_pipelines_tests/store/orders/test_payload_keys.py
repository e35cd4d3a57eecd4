"""Payloads are sealed always, found by nobody without the key, and rotated while everything runs."""

from __future__ import annotations

import os
import re
import stat
import threading
from binascii import a2b_base64
from pathlib import Path

import pytest
import sqlalchemy as sa

from midas_pipelines.settings import SettingsError, load_settings
from midas_pipelines.store.database import Database
from midas_pipelines.store.orders import payload_vault
from midas_pipelines.store.orders.payload_vault import (
    ERASED_PAYLOAD,
    PayloadUnreadable,
    Vault,
    digest_of,
    payloads_by_key,
    rewrap_payloads,
    vault_of,
)
from midas_pipelines.store.privacy.keys import add_key, fixed_ring, key_file, key_source, new_key
from midas_pipelines.store.schema.gateway_tables import marketplace_webhooks
from midas_pipelines_tests.shop import rows, run
from midas_pipelines_tests.vaults import VAULT

ORDER = {"id": "X-1", "customer": {"name": "Zyxwvu Personname", "email": "zyxwvu@home.example"}}


def store(database: Database, vault: Vault, *names: str) -> None:
    """Webhooks with that order, sealed."""
    made = [
        {"webhook_id": name, "type": "order.created", "payload": vault.seal(ORDER | {"id": name})}
        for name in names
    ]
    with database.writing() as connection:
        connection.execute(sa.insert(marketplace_webhooks), made)


def opened(database: Database, vault: Vault) -> list[str]:
    """The ids in the stored payloads."""
    return [
        vault.open(row[0])["id"]
        for row in rows(database, "SELECT payload FROM marketplace_webhooks ORDER BY id")
    ]


def test_a_payload_shows_nothing_and_a_changed_one_is_refused() -> None:
    sealed = VAULT.seal(ORDER)
    assert VAULT.open(sealed) == ORDER
    assert sealed != VAULT.seal(ORDER)
    assert not re.search("zyxwvu|personname|home", sealed, re.IGNORECASE)
    for place in (-30, len(sealed) // 2):
        other = "A" if sealed[place] != "A" else "B"
        with pytest.raises(PayloadUnreadable, match="row was changed"):
            VAULT.open(sealed[:place] + other + sealed[place + 1 :])
    with pytest.raises(PayloadUnreadable, match="which is missing"):
        Vault(fixed_ring(new_key())).open(sealed)


def test_payloads_sealed_together_draw_once_and_use_no_random_byte_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn, draw = list[int](), os.urandom
    monkeypatch.setattr(os, "urandom", lambda count: drawn.append(count) or draw(count))
    orders = [ORDER | {"number": number} for number in range(5)]
    sealed = VAULT.seal_all(orders)
    assert drawn == [5 * payload_vault.FRESH_BYTES]
    assert [VAULT.open(text) for text in sealed] == orders
    for part in (3, 4):  # the wrapped data key and the payload, each behind its nonce
        nonces = {a2b_base64(text.split(":")[part])[: payload_vault.NONCE_BYTES] for text in sealed}
        assert len(nonces) == 5


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    settings = load_settings(dagster_home=str(tmp_path / "home"))
    vaults = [vault_of(settings) for _ in range(8)]
    threads = [threading.Thread(target=vault.ring.newest) for vault in vaults]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    path = tmp_path / "home" / "payload-key"
    assert (key_file(settings), key_source(settings)) == (path, f"the file {path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [path] == list(path.parent.iterdir())
    assert {vault.ring.newest().key_id for vault in vaults} == {vaults[0].ring.newest().key_id}


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("echo {key}", None),
        ("false", "MIDAS_KEY_COMMAND failed"),
        ("no-such-command-here", "MIDAS_KEY_COMMAND failed"),
        ("echo secret", "printed no key"),
        ("true", "printed no key"),
    ],
)
def test_a_command_gives_the_key(command: str, says: str | None) -> None:
    key = new_key()
    ring = vault_of(load_settings(key_command=command.format(key=key))).ring
    if says is None:
        assert ring.newest().key_id == fixed_ring(key).newest().key_id
    else:
        with pytest.raises(SettingsError, match=says) as refused:
            ring.newest()
        assert "secret" not in str(refused.value)


def test_a_rotation_rewraps_all_and_moves_the_digests_along(shop: Database, tmp_path: Path) -> None:
    settings = load_settings(dagster_home=str(tmp_path))
    running, vault = vault_of(settings), vault_of(settings)
    old = running.ring.newest()
    store(shop, running, "1", "2", "3")
    run(shop, "UPDATE marketplace_webhooks SET payload = :p WHERE webhook_id = '2'", p=ERASED_PAYLOAD)
    body = rows(shop, "SELECT payload FROM marketplace_webhooks ORDER BY id")[0][0].rpartition(":")[2]
    add_key(key_file(settings))
    assert rewrap_payloads(shop, vault).rewrapped == 2
    new = vault.ring.newest()
    assert payloads_by_key(shop) == {new.key_id: 2}
    first, erased, _ = (row[0] for row in rows(shop, "SELECT payload FROM marketplace_webhooks ORDER BY id"))
    assert (first.rpartition(":")[2], erased) == (body, ERASED_PAYLOAD)
    assert digest_of("email", "ZYXWVU@home.example ", new.indexing) in first
    assert digest_of("email", "zyxwvu@home.example", old.indexing) not in first
    assert running.open(first)["id"] == "1"  # a process that runs reads the new key by itself
    assert rewrap_payloads(shop, vault).rewrapped == 0


@pytest.mark.parametrize("point", [0, 5, 29])
def test_a_rotation_that_dies_goes_on(shop: Database, monkeypatch: pytest.MonkeyPatch, point: int) -> None:
    old, new = new_key(), new_key()
    store(shop, Vault(fixed_ring(old)), *map(str, range(30)))
    monkeypatch.setattr(payload_vault, "BLOCK", 4)
    vault, calls = Vault(fixed_ring(f"{new},{old}")), []
    rewrap = vault.rewrap

    def dies(sealed: str) -> str:
        calls.append(1)
        if len(calls) == point + 1:
            raise MemoryError
        return rewrap(sealed)

    monkeypatch.setattr(vault, "rewrap", dies)
    with pytest.raises(MemoryError):
        rewrap_payloads(shop, vault)
    assert opened(shop, vault) == list(map(str, range(30)))
    rewrap_payloads(shop, vault)
    assert payloads_by_key(shop) == {vault.ring.newest().key_id: 30}
    assert opened(shop, vault) == list(map(str, range(30)))


def test_a_rotation_under_load_loses_nothing(shop: Database, tmp_path: Path) -> None:
    settings = load_settings(dagster_home=str(tmp_path))
    rotating, over = vault_of(settings), threading.Event()
    store(shop, rotating, "first")
    written: list[str] = []

    def work() -> None:
        vault = vault_of(settings)
        while not over.is_set() and len(written) < 300:
            name = f"w{len(written)}"
            store(shop, vault, name)
            written.append(name)

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(3):
        add_key(key_file(settings))
        rewrap_payloads(shop, rotating)
    over.set()
    thread.join()
    rewrap_payloads(shop, rotating)
    assert payloads_by_key(shop) == {rotating.ring.newest().key_id: len(written) + 1}
    assert opened(shop, rotating) == ["first", *written]

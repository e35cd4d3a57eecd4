"""`midas keys payload | rotate-payload`: the keys that payloads are sealed with."""

from __future__ import annotations

import click

from midas_pipelines.cli.audited import Changing
from midas_pipelines.cli.opening import shop_database
from midas_pipelines.cli.printing import json_option, print_json, print_table
from midas_pipelines.cli.terminal import say
from midas_pipelines.errors import WrongInput
from midas_pipelines.store.orders.payload_vault import Vault, payloads_by_key, rewrap_payloads
from midas_pipelines.store.privacy.keys import (
    add_key,
    keep_keys,
    key_file,
    key_ring,
    key_source,
    new_key,
    uses_file,
)


@click.command()
@click.option("--new", is_flag=True, help="Print a fresh key, to be put before the others.")
@json_option
def payload(new: bool, as_json: bool) -> None:
    """Show the keys that payloads are sealed with: where they come from, and how many payloads each has sealed."""
    if new:
        click.echo(new_key())
        return
    with shop_database() as (settings, database):
        ring, counted = key_ring(settings), payloads_by_key(database)
        known = [key.key_id for key in ring.all()]
    rows = [
        {"key": key, "state": _state(key, known), "payloads": counted[key]}
        for key in dict.fromkeys([*known, *counted])
    ]
    if as_json:
        print_json({"source": key_source(settings), "keys": rows})
    else:
        print_table("Payload keys", rows)
        say(f"They come from {key_source(settings)}.")


def _state(key: str, known: list[str]) -> str:
    if key not in known:
        return "missing"
    return "newest" if key == known[0] else "older"


@click.command("rotate-payload", cls=Changing)
@click.option(
    "--retire", is_flag=True, help="Afterwards drop the keys that no payload needs from the key file."
)
@json_option
def rotate_payload(retire: bool, as_json: bool) -> None:
    """Seal every payload under a new key, while everything runs; a rotation that was stopped goes on.

    A key file gets the new key here. In MIDAS_PAYLOAD_KEY, or what MIDAS_KEY_COMMAND prints, put it before the others
    yourself (`midas keys payload --new`), restart, then run this. Backups that are older need the older key.
    """
    with shop_database() as (settings, database):
        ring, path, ours = key_ring(settings), key_file(settings), uses_file(settings)
        newest = ring.newest().key_id
        unfinished = any(key != newest for key in payloads_by_key(database))
        if ours and not unfinished:
            add_key(path)
        elif not unfinished and len(ring.all()) == 1:
            raise WrongInput(
                f"There is one key in {key_source(settings)}, and nothing to rotate to: put a new one before it "
                "(`midas keys payload --new`), separated by a comma, and restart."
            )
        done = rewrap_payloads(database, Vault(ring))
        needed = payloads_by_key(database)
        kept = [key for number, key in enumerate(ring.all()) if number == 0 or key.key_id in needed]
        retired = len(ring.all()) - len(kept) if retire and ours else 0
        if retired:
            keep_keys(path, kept)
    unreadable = sum(map(len, done.unreadable.values()))
    if as_json:
        print_json({"rewrapped": done.rewrapped, "unreadable": done.unreadable, "retired": retired})
    else:
        say(
            f"{done.rewrapped} payloads are sealed under the key {kept[0].key_id}; {retired} older keys retired."
        )
        if unreadable:
            say(
                f"{unreadable} payloads open with no key here: `midas keys payload` shows which key they need."
            )
    if unreadable:
        raise SystemExit(1)

"""The trigger on parcels: one that is given another carrier, number or page is to be told anew, whoever changed it."""

from __future__ import annotations

from midas_pipelines.store.schema.shipment_tables import order_shipments

PARCELS = order_shipments.name
TOLD = ("carrier", "tracking_number", "tracking_url")
"""The columns that 4Seller is told of."""

POSTGRESQL = SQLITE = ("midas_parcels_update",)

_FORGET = ("told_at", "next_attempt_at", "reason")


def statements(dialect: str) -> list[str]:
    """What installs it; run again it changes nothing."""
    (name,) = SQLITE
    columns = ", ".join(TOLD)
    if dialect == "postgresql":
        forgotten = " ".join(f"NEW.{column} := NULL;" for column in _FORGET)
        function = (
            "CREATE OR REPLACE FUNCTION midas_parcel_changed() RETURNS trigger LANGUAGE plpgsql AS $$\n"
            f"BEGIN\n  {forgotten}\n  RETURN NEW;\nEND $$"
        )
        differs = " OR ".join(f"OLD.{column} IS DISTINCT FROM NEW.{column}" for column in TOLD)
        return [
            function,
            f"CREATE OR REPLACE TRIGGER {name} BEFORE UPDATE OF {columns} ON {PARCELS} FOR EACH ROW "
            f"WHEN ({differs}) EXECUTE FUNCTION midas_parcel_changed()",
        ]
    forgotten = ", ".join(f"{column} = NULL" for column in _FORGET)
    differs = " OR ".join(f"OLD.{column} IS NOT NEW.{column}" for column in TOLD)
    return [
        f"DROP TRIGGER IF EXISTS {name}",
        f"CREATE TRIGGER {name} AFTER UPDATE OF {columns} ON {PARCELS} WHEN {differs} "
        f"BEGIN UPDATE {PARCELS} SET {forgotten} WHERE id = NEW.id; END",
    ]

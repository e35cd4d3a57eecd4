"""The trigger on shipments: a changed carrier, tracking number or URL is pushed again, whatever changed it."""

from __future__ import annotations

from midas_pipelines.store.schema.shipment_tables import order_shipments

PARCELS = order_shipments.name
PUSHED = ("carrier", "tracking_number", "tracking_url")
"""The columns that are pushed to 4Seller."""

POSTGRESQL = SQLITE = ("midas_parcels_update",)

_CLEARED = ("pushed_at", "next_attempt_at", "reason")


def statements(dialect: str) -> list[str]:
    """Statements that install it; safe to repeat."""
    (name,) = SQLITE
    columns = ", ".join(PUSHED)
    if dialect == "postgresql":
        clear = " ".join(f"NEW.{column} := NULL;" for column in _CLEARED)
        function = (
            "CREATE OR REPLACE FUNCTION midas_parcel_changed() RETURNS trigger LANGUAGE plpgsql AS $$\n"
            f"BEGIN\n  {clear}\n  RETURN NEW;\nEND $$"
        )
        differs = " OR ".join(f"OLD.{column} IS DISTINCT FROM NEW.{column}" for column in PUSHED)
        return [
            function,
            f"CREATE OR REPLACE TRIGGER {name} BEFORE UPDATE OF {columns} ON {PARCELS} FOR EACH ROW "
            f"WHEN ({differs}) EXECUTE FUNCTION midas_parcel_changed()",
        ]
    clear = ", ".join(f"{column} = NULL" for column in _CLEARED)
    differs = " OR ".join(f"OLD.{column} IS NOT NEW.{column}" for column in PUSHED)
    return [
        f"DROP TRIGGER IF EXISTS {name}",
        f"CREATE TRIGGER {name} AFTER UPDATE OF {columns} ON {PARCELS} WHEN {differs} "
        f"BEGIN UPDATE {PARCELS} SET {clear} WHERE id = NEW.id; END",
    ]

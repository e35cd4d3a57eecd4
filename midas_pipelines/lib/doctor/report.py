"""All lines of the doctor's report, from the settings to the disk."""

from __future__ import annotations

from pathlib import Path

from midas_pipelines.lib.doctor.channel import channel_lines
from midas_pipelines.lib.doctor.line import Finding, ok, probed, wrong
from midas_pipelines.lib.doctor.shop import shop_lines
from midas_pipelines.lib.doctor.surroundings import (
    dagster_lines,
    machine_lines,
    mail_lines,
    webhook_lines,
)
from midas_pipelines.settings import Settings, SettingsError, load_settings
from midas_pipelines.store.database import Database


def doctor_report(given: Settings | None = None, *, new_key: bool = False) -> list[Finding]:
    """Checks everything that a start needs, and changes nothing but the state of a refused key.

    Args:
        given: the settings; None reads those of this process.
        new_key: resumes pushes when 4Seller takes the key.
    """
    try:
        settings = given or load_settings()
    except SettingsError as failed:
        return [wrong("settings", str(failed), "Correct them; docs/settings.md lists all.")]
    lines = [ok("settings", "Each one that is set can be read.")]
    try:
        database = Database(settings.database(), settings.limits("bulk"))
    except SettingsError as failed:
        return [
            *lines,
            wrong("database", str(failed), "Set MIDAS_DATABASE_URL."),
            *_without_database(settings, None, new_key),
        ]
    file = database.engine.url.database
    if not database.is_postgresql and not Path(file or "").exists():
        step = "Name the shop's file in MIDAS_DATABASE_URL, or make a sample shop with `midas store seed`."
        missing = wrong("database", f"There is no file {file}.", step)
        return [*lines, missing, *_without_database(settings, None, new_key)]
    with database:
        found = probed(
            "database", lambda: shop_lines(database), "See that it runs and MIDAS_DATABASE_URL is right."
        )
        usable = database if _is_ready(found) else None
        return [*lines, *found, *_without_database(settings, usable, new_key)]


def _is_ready(lines: list[Finding]) -> bool:
    return any(line.check == "our tables" and line.state == "ok" for line in lines)


def _without_database(settings: Settings, database: Database | None, new_key: bool) -> list[Finding]:
    return [
        *probed(
            "4Seller",
            lambda: channel_lines(settings, database, new_key=new_key),
            "Set FOURSELLER_API_KEY and FOURSELLER_SELLER_ID.",
        ),
        *probed("webhooks", lambda: webhook_lines(settings, database), "Correct the setting."),
        *probed("alerts", lambda: mail_lines(settings), "Correct the setting."),
        *probed("Dagster", lambda: dagster_lines(settings, database), "Correct the setting."),
        *probed("disk", lambda: machine_lines(settings), "Correct the setting."),
    ]

"""All lines of the doctor's report, from the settings to the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import sqlalchemy as sa

from midas_pipelines.errors import ExpectedError
from midas_pipelines.lib.doctor.sides import Finding, channel_lines, ok, shop_lines, wrong
from midas_pipelines.lib.doctor.surroundings import dagster_lines, mail_lines, place_lines, webhook_lines
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
        lines.append(wrong("database", str(failed), "Set MIDAS_DATABASE_URL."))
        return lines + _around(settings, None, new_key)
    with database:
        step = "See that it runs and MIDAS_DATABASE_URL is right."
        found = _probed("database", lambda: shop_lines(database), step)
        ready = any(line.check == "our tables" and line.state == "ok" for line in found)
        return lines + found + _around(settings, database if ready else None, new_key)


def _around(settings: Settings, database: Database | None, new_key: bool) -> list[Finding]:
    keys = "Set FOURSELLER_API_KEY and FOURSELLER_SELLER_ID."
    probes: list[tuple[str, Callable[[], Iterable[Finding]], str]] = [
        ("4Seller", lambda: channel_lines(settings, database, new_key=new_key), keys),
        ("webhooks", lambda: webhook_lines(settings, database), "Correct the setting."),
        ("alerts", lambda: mail_lines(settings), "Correct the setting."),
        ("Dagster", lambda: dagster_lines(settings, database), "Correct the setting."),
        ("disk", lambda: place_lines(settings, database), "Correct the setting."),
    ]
    return [line for probe in probes for line in _probed(*probe)]


def _probed(check: str, probe: Callable[[], Iterable[Finding]], next_step: str) -> list[Finding]:
    """The lines of a probe, up to one, named `check`, that says why it ended early."""
    lines: list[Finding] = []
    try:
        lines.extend(probe())
    except ExpectedError as failed:
        lines.append(wrong(check, str(failed), next_step))
    except sa.exc.SQLAlchemyError as failed:
        reason = type(getattr(failed, "orig", None) or failed).__name__
        lines.append(wrong(check, f"The database did not answer as it should ({reason}).", next_step))
    except OSError as failed:
        lines.append(wrong(check, f"It failed: {failed.strerror or type(failed).__name__}.", next_step))
    return lines

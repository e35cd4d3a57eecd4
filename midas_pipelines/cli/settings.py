"""`midas settings`: every setting, what it is now, its default and its bounds."""

from __future__ import annotations

import click

from midas_pipelines.cli.printing import json_option, print_json, print_table
from midas_pipelines.lib.settings_list import setting_rows
from midas_pipelines.notify.targets import require_understood
from midas_pipelines.settings import load_settings


@click.command()
@click.option("--markdown", is_flag=True, help="Print the page docs/settings.md: defaults, not values.")
@json_option
def settings(markdown: bool, as_json: bool) -> None:
    """Show every setting: its name in the environment, its value now, its default and its bounds. Secrets are masked."""
    if markdown:
        click.echo(page(), nl=False)
        return
    now = load_settings()
    require_understood(now.notify_urls)
    rows = setting_rows(now)
    if as_json:
        print_json({"settings": rows})
    else:
        print_table(
            "Settings", [{name: row[name] for name in ("name", "now", "source", "default")} for row in rows]
        )


def page() -> str:
    """The page of the documentation, from the settings' own descriptions."""
    lines = [
        "# Settings",
        "",
        "All come from the environment and are read once, at the start of a run. A wrong one is refused with a sentence.",
        "`midas settings` shows what is in force. This page is printed by `midas settings --markdown`.",
        "",
        "| name | default | bounds | what it decides |",
        "|---|---|---|---|",
    ]
    for row in setting_rows():
        lines.append(f"| `{row['name']}` | {row['default']} | {row['bounds']} | {row['what']} |")
    return "\n".join(lines) + "\n"

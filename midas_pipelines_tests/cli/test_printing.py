"""What commands print: text as it is, whatever a marketplace writes into it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import click
import pytest
from click.testing import CliRunner

from midas_pipelines.cli import cli
from midas_pipelines.cli.orders.reading import orders
from midas_pipelines.cli.printing import Table, clean, print_json, print_table, say
from midas_pipelines.errors import WrongInput

TITLES = [
    "LCD [black] for [iphone 12]",
    "Cable 3.5mm [/aux]",
    "[red]X[/red]",
    "[link=https://evil.example]here[/link]",
    ":smile: \\[x]",
    "スクリーン",
    "x" * 400,
]


@pytest.mark.parametrize("title", TITLES)
def test_brackets_are_no_markup_and_nothing_is_cut_off(
    capsys: pytest.CaptureFixture[str], title: str
) -> None:
    print_table(Table("T", [{"line": 1, "title": title}]))
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    cells = [line.split("│")[2].strip() for line in printed]
    assert "".join(cells).replace(" ", "") == title.replace(" ", "")


ODD = [
    *("\x1b[31mred", "\x1b]0;owned\x07", "a\rb", "a\x08b", "\u202egnp.exe", "\u2066x", "\x9b2J", "\x00"),
    *("a\n1 units back in stock.", "a\u2028b", "a\tb", "\ud800", "\U000e0041"),
]


@pytest.mark.parametrize("odd", ODD)
def test_nothing_moves_the_terminals_cursor(capsys: pytest.CaptureFixture[str], odd: str) -> None:
    print_table(Table(odd, [{odd: odd, "n": 1}]))
    assert all(line.isprintable() for line in capsys.readouterr().out.split("\n"))


@pytest.mark.parametrize("odd", ODD)
def test_a_sentence_is_one_line_and_an_object_too(capsys: pytest.CaptureFixture[str], odd: str) -> None:
    say(f"Order {odd} counts as shipped.")
    say(odd, err=True)
    print_json({"order": odd})
    printed = capsys.readouterr()
    first, second, rest = printed.out.split("\n")
    assert (first.isprintable(), second.isprintable(), rest) == (True, True, "")
    assert printed.err.removesuffix("\n").isprintable()
    assert json.loads(second) == {"order": odd}


def test_letters_of_every_language_are_printed_as_they_are() -> None:
    text = "Grüße, 山田 太郎 😀 שלום [1]"
    assert clean(text) == text


def test_why_a_command_failed_is_one_line_with_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: click.Context) -> None:
        raise WrongInput("No order A\x1b[2J\nB.")

    monkeypatch.setattr(orders, "invoke", fails)
    ended = CliRunner().invoke(cli, ["orders", "show", "A"], color=True)
    assert (ended.exit_code, ended.output) == (2, "Error: No order A [2J B.\n")


def test_what_is_not_known_is_left_empty_and_numbers_stand_to_the_right(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table(Table("T", [{"name": None, "count": 5}, {"name": "b", "count": 12345}]))
    printed = capsys.readouterr().out
    assert "None" not in printed
    assert "│     5 │" in printed


def test_a_pipe_is_120_columns_wide_and_no_wider(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(Table("T", [{"name": "word " * 100}]))
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 120


def test_programs_get_one_object_with_moments_and_amounts_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    print_json(
        {"at": moment, "total": Decimal("1.50"), "title": "ä\x1b\n", "none": None, "rows": [{"x": moment}]}
    )
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) == 1
    assert "\x1b" not in printed
    assert json.loads(printed) == {
        "at": "2026-01-02T03:04:05+00:00",
        "total": "1.50",
        "title": "ä\x1b\n",
        "none": None,
        "rows": [{"x": "2026-01-02T03:04:05+00:00"}],
    }


def test_a_column_that_is_empty_in_every_row_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(Table("T", [{"a": 1, "empty": None, "b": None}, {"a": 0, "empty": None, "b": "x"}]))
    shown = capsys.readouterr().out
    assert "empty" not in shown
    assert "b" in shown

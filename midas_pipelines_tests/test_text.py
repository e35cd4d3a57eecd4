"""Text from outside in a page of Markdown is text; numbers and durations can be read."""

import math
import re

import pytest
from markdown_it import MarkdownIt

from midas_pipelines.text import duration_in_words, escaped, number


@pytest.mark.parametrize(
    "text",
    [
        "![x](https://evil.example/pixel.png)",
        "[click](https://evil.example)",
        "<img src=https://evil.example/x>",
        "<https://evil.example>",
        "https://evil.example www.evil.example x@evil.example",
        "`code` **bold** # title",
        "a | b\n|---|---|",
        "# title\n- list\n> quote\n\n    code",
        "[x]: https://evil.example",
        "&lt;b&gt; \\![x](y)",
    ],
)
def test_no_markup_comes_through(text: str) -> None:
    page = MarkdownIt("js-default").render(f"- {escaped(text)}")
    assert set(re.findall(r"<(\w+)", page)) <= {"ul", "li", "p", "br"}


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.00333, "0.00333"), (1.5, "1.5"), (99.99, "100"), (123456.7, "123,457"), (-20.0, "-20")],
)
def test_no_number_is_shown_as_nothing(value: float, text: str) -> None:
    assert number(value) == text


def test_durations_are_in_the_unit_of_a_person() -> None:
    shown = [duration_in_words(seconds) for seconds in (0.0123, 59, 90, 7200, 303_000, math.inf)]
    assert shown == ["0.0123 s", "59 s", "1.5 min", "2 h", "3.51 days", "never ends"]

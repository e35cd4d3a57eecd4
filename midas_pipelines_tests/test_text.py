"""Text from outside in a page of Markdown is text."""

import re

import pytest
from markdown_it import MarkdownIt

from midas_pipelines.text import escaped


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

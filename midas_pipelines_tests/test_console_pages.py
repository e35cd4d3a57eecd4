"""The console's pages in place of commands, in what staff read."""

import pytest

from midas_pipelines.console_pages import in_console, page_of

URL = "https://midas.example/"


@pytest.mark.parametrize(
    ("kind", "subject", "text", "expected"),
    [
        ("brake", "brake", "Write it with `midas sync products --full --plan F`.", "Write it at https://midas.example/plan."),
        ("order_quarantined", "order:A/1", "Retry it with `midas orders retry`.", "Retry it at https://midas.example/orders/A%2F1."),
        ("low_stock", "item:1:0", "SKU-1 is low.", "SKU-1 is low. See https://midas.example/stock"),
        ("conflict", "mapping:7:price", "Settle it with `midas conflicts list`.",
         "Settle it at https://midas.example/decide?cause=conflict&about=mapping:7:price."),
        ("stray_product", "many:1", "Decide with `midas conflicts list`.", "Decide at https://midas.example/decide?cause=orphan."),
        ("incident", "lock", "`midas incident unlock` ends it.", "`midas incident unlock` ends it. See https://midas.example/alerts"),
    ],
)  # fmt: skip
def test_an_alert_leads_to_its_page(kind: str, subject: str, text: str, expected: str) -> None:
    assert in_console(text, URL, page=page_of(kind, subject)) == expected
    assert in_console(text, None, page=page_of(kind, subject)) == text


def test_a_hint_becomes_a_link() -> None:
    assert in_console("`midas orders show ID` shows it.", URL, markdown=True) == (
        "[the page /orders](https://midas.example/orders) shows it."
    )

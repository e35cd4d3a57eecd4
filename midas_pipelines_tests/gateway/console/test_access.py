"""Every page and click by role, without the form's token, and with markup in every text that a page shows."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest

from midas_pipelines.gateway import app
from midas_pipelines.gateway.console.web import EVERYONE, ConsoleRoute, needed_role
from midas_pipelines.notify.alerts import raise_alert
from midas_pipelines.store.gateway.keys import Role, create_key
from midas_pipelines.store.items.claims import stop_pushes
from midas_pipelines_tests.gateway.console.visitor import Visitor
from midas_pipelines_tests.shop import add_product, run

MARKUP = "<script>alert(1)</script>'\"><img src=x onerror=alert(2)>{{ 7*7777 }}"
PAGES = {
    "/": Role.VIEWER,
    "/stock": Role.VIEWER,
    "/stock.csv": Role.VIEWER,
    "/alerts": Role.VIEWER,
    "/alerts?state=all": Role.VIEWER,
    "/webhooks": Role.VIEWER,
    "/machine-room": Role.VIEWER,
    "/webhooks/payload?id=none": Role.ADMIN,
    "/activity": Role.ADMIN,
    "/keys": Role.ADMIN,
    "/settings": Role.ADMIN,
    "/doctor": Role.ADMIN,
}


def clicks() -> list[tuple[str, Role]]:
    """Every POST of those who are signed in, with the role that it needs."""
    routes = [one for part in app.PAGES for one in part.router.routes if isinstance(one, ConsoleRoute)]
    return [(one.path, needed_role("POST", one.path)) for one in routes if "POST" in one.methods]


@pytest.mark.parametrize("role", list(Role))
def test_a_role_opens_its_pages_and_no_other(visitor: Visitor, role: Role) -> None:
    visitor.sign_in(role)
    for path, needed in PAGES.items():
        expected = 404 if "none" in path else 200
        visitor.see(path, status=expected if role.covers(needed) else 403)
    links = set(re.findall(r'<a href="(/[a-z-]*)"', visitor.see("/")))
    assert ({"/keys", "/settings", "/activity"} <= links) is (role is Role.ADMIN)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
def test_a_role_is_refused_every_click_that_is_not_its_own(visitor: Visitor, role: Role) -> None:
    visitor.sign_in(role)
    found = clicks()
    assert len(found) > 30
    for path, needed in found:
        if not role.covers(needed):
            answer = visitor.client.post(re.sub(r"{\w+(:path)?}", "1", path), data={"csrf": visitor.csrf})
            assert answer.status_code == 403, path
            assert f"This needs the role {needed.value}" in answer.text
    assert {path for path, needed in found if needed is Role.VIEWER} == EVERYONE


def test_no_click_works_without_the_token_of_its_form(admin: Visitor) -> None:
    for path, _ in clicks():
        answer = admin.client.post(re.sub(r"{\w+(:path)?}", "1", path), data={"csrf": "0" * 64})
        assert answer.status_code == 403, path
    admin.see("/")


def test_a_viewer_sees_no_button_but_signing_out(visitor: Visitor) -> None:
    visitor.sign_in(Role.VIEWER)
    with visitor.world.database.writing() as connection:
        raise_alert(connection, kind="low_stock", subject="item:1:0", text="Order more.")
        stop_pushes(connection, "paused")
    for path in ("/alerts", "/webhooks", "/machine-room", "/stock"):
        actions = re.findall(r'<form method="post" action="([^"]*)"', visitor.see(path))
        assert set(actions) <= {"/sign-out", "/alerts/test"}, path
        assert visitor.see(path).count("<button") - visitor.see(path).count("Show</button>") <= 2


def test_markup_in_any_text_stays_text(visitor: Visitor) -> None:
    world = visitor.world
    with world.database.writing() as connection:
        _, key = create_key(connection, name=MARKUP[:100], role=Role.ADMIN)
        raise_alert(connection, kind=MARKUP[:30], subject=MARKUP, text=MARKUP)
        stop_pushes(connection, MARKUP)
    item = add_product(world.database, sku=MARKUP[:50], name=MARKUP, stock_quantity=3)
    run(world.database, "UPDATE products SET stock_quantity = 1 WHERE id = :id", id=item)
    run(
        world.database,
        "INSERT INTO marketplace_webhooks (webhook_id, type, subject, payload, outcome, reason, processed_at) "
        "VALUES (:a, :b, :c, 'plain:{\"<b>\": \"<i>\"}', 'quarantined', :d, '2026-01-01')",
        **dict.fromkeys("abcd", MARKUP),
    )
    run(
        world.database,
        "INSERT INTO fourseller_sync_logs (kind, scope, outcome, reason) VALUES ('orders', 'all', 'failed', :text)",
        text=MARKUP,
    )
    visitor.sign_in(key=key)
    visitor.click("/keys/review")
    shown = 0
    for path in PAGES:
        if path.endswith((".csv", "none")):
            continue
        page = visitor.see(path)
        assert not re.search(r"<script>|<img|54439", page), path
        shown += "&lt;script&gt;" in page
    assert shown >= 6
    page = visitor.see(f"/webhooks/payload?id={quote(MARKUP, safe='')}")
    assert "<i>" not in page
    assert "(hidden)" in page

"""The console in a real Chromium: walks from a card to what 4Seller shows then, accessibility, roles and keys."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from midas_pipelines.store.gateway.keys import LINK, Caller, Role, issue_token
from midas_pipelines.store.stock.rule_changes import put_rule
from midas_pipelines.store.stock.rules import Scope
from midas_pipelines.sync.reconcile.run import reconcile
from midas_pipelines_tests.gateway.conftest import Start
from midas_pipelines_tests.gateway.running import Gateway
from midas_pipelines_tests.shop import add_product, rows, value

CHROMIUM = os.environ.get("MIDAS_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
AXE = Path(__file__).parent / "axe.min.js"
RULES: dict[Literal["light", "dark"], list[str]] = {
    "light": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"],
    "dark": ["color-contrast"],  # only the colors are other ones
}
DARK = ("/", "/decide?cause=conflict", "/items/SCREEN-1", "/keys", "/machine-room", "/rules")
"""Pages that have all kinds of elements between them: the colors of the others are the same."""
HOW = {"preload": False, "resultTypes": ["violations"]}
MARKUP = "<img src=x onerror=\"document.title='attacked'\">"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


def signed_in(browser: Browser, gateway: Gateway, role: Role, width: int = 1280) -> Page:
    """A window of someone with that role."""
    with gateway.world.database.writing() as connection:
        link = issue_token(connection, LINK, Caller("", "Alex Sample", role), seconds=300)
    page = browser.new_context(viewport={"width": width, "height": 900}).new_page()
    page.set_default_timeout(20_000)
    page.goto(f"{gateway.url}/sign-in?link={link}")
    return page


def aside(work: Callable[[], object]) -> None:
    """Does it in a thread of its own: the browser's loop runs in this one."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()


def troubled_shop(gateway: Gateway) -> None:
    """One of everything that needs a person, with markup in every text that comes from outside."""
    world = gateway.world
    add_product(world.database, sku="SCREEN-1", name=f"Screen {MARKUP}", stock_quantity=9, price="10.00")
    add_product(
        world.database, sku="EMPTY-1", name="Battery for Sample Phone", stock_quantity=0, price="5.00"
    )
    with world.database.writing() as connection:
        put_rule(connection, Scope(), {"policy": "manual"}, by="test")
    world.full()
    screen = world.sandbox.state.with_sku("SCREEN-1")[0]
    world.sandbox.state.edit(screen["id"], {"price": "7.77", "title": f"There {MARKUP}"})
    world.place(("EMPTY-1", 2), sales_channel="ebay")
    world.place(items=[{"sku": MARKUP[:40], "title": f"Battery {MARKUP}", "quantity": 1, "price": "9.99"}])
    world.import_orders()
    asyncio.run(reconcile(world.sync_context()))


def test_a_person_settles_what_waits_and_4seller_shows_it(browser: Browser, start: Start) -> None:
    gateway = start(with_worker=False)
    aside(lambda: troubled_shop(gateway))
    world = gateway.world
    page = signed_in(browser, gateway, Role.OPERATOR)
    page.get_by_role("link", name="Shop and marketplace disagree").click()
    card = page.locator("article", has_text="SCREEN-1: price")
    card.get_by_role("button", name="Take the shop's").click()
    page.get_by_text("The shop's side counts for 1 conflict").wait_for()
    page.keyboard.press("g")
    page.keyboard.press("d")
    page.wait_for_url("**/decide")
    page.goto(f"{gateway.url}/decide?cause=unmapped")
    suggested = page.locator("article form", has_text="EMPTY-1")  # by htmx
    suggested.get_by_role("button", name="This one", exact=True).click()
    page.get_by_text("is EMPTY-1").wait_for()
    page.goto(f"{gateway.url}/decide?cause=oversold")
    card = page.locator("article", has_text="lacks 2")
    card.get_by_label("Units that came in").fill("5")
    card.get_by_role("button", name="Restock").click()
    page.get_by_text("5 units are in stock").wait_for()
    order = next(one for one in world.sandbox.state.orders.values() if one["sales_channel"] == "ebay")["id"]
    page.goto(f"{gateway.url}/orders/{order}")
    page.get_by_label("Carrier").fill("UPS")
    page.get_by_label("Tracking number").fill("123")
    page.get_by_text("does not look like a UPS number").wait_for()
    page.get_by_label("Tracking number").fill("1Z999AA10123456784")
    page.get_by_role("button", name="Ship", exact=True).click()
    page.get_by_text("4Seller knows it").wait_for()
    assert world.sandbox.state.orders[order]["tracking"]["number"] == "1Z999AA10123456784"
    page.goto(f"{gateway.url}/plan")
    page.get_by_role("button", name="Plan what changed").click()
    digest = page.locator("label code").inner_text()
    page.get_by_label("To send exactly these").fill(digest)
    page.get_by_role("button", name="Approve and send").click()
    page.get_by_text("Approved. It is being sent now.").wait_for()
    done = "SELECT result FROM midas_console_plans WHERE approved_at IS NOT NULL"
    assert "updated" in gateway.wait(lambda: value(world.database, done), "the plan")
    assert world.shown["EMPTY-1"][2] == 2
    assert "attacked" not in page.title()


def test_every_page_is_accessible_and_fits_a_telephone(browser: Browser, start: Start) -> None:
    gateway = start(with_worker=False)
    aside(lambda: troubled_shop(gateway))
    page = signed_in(browser, gateway, Role.ADMIN)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    causes = ("conflict", "unmapped", "oversold", "quarantined_item", "orphan")
    orders = rows(gateway.world.database, "SELECT marketplace_order_id FROM marketplace_orders")
    hrefs = "links => links.map(link => link.getAttribute('href'))"
    paths = page.locator("nav a").evaluate_all(hrefs) + [f"/decide?cause={cause}" for cause in causes]
    assert len(paths) > 15
    page.add_init_script(path=AXE)
    found: dict[str, object] = {}
    for path in [*paths, "/items/SCREEN-1", *(f"/orders/{order}" for (order,) in orders), "/sign-in"]:
        page.goto(gateway.url + path, wait_until="domcontentloaded")
        for scheme, rules in RULES.items():
            if scheme == "dark" and path not in DARK:
                continue
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            report = page.evaluate("how => axe.run(document, how)", HOW | {"runOnly": rules})
            for one in report["violations"]:
                found[f"{scheme} {path} {one['id']}"] = [node["html"][:200] for node in one["nodes"][:2]]
        page.set_viewport_size({"width": 360, "height": 800})
        wide = page.evaluate("document.documentElement.scrollWidth")
        if wide > 360:
            found[f"{path} is {wide} px wide"] = ""
        page.set_viewport_size({"width": 1280, "height": 900})
    assert found == {}
    assert errors == []
    assert "attacked" not in page.title()


def test_numbers_stay_fresh_and_keys_move_about(browser: Browser, start: Start) -> None:
    gateway = start(with_worker=False)
    page = signed_in(browser, gateway, Role.VIEWER)
    page.goto(f"{gateway.url}/decide")
    add_product(gateway.world.database, sku="EMPTY-1", stock_quantity=0)
    gateway.world.place(("EMPTY-1", 1))
    aside(gateway.world.import_orders)
    page.locator("[data-value=to_decide]", has_text="1").wait_for()
    page.keyboard.press("?")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    page.goto(f"{gateway.url}/items")
    page.keyboard.press("/")
    page.keyboard.type("empty")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=empty**")
    page.keyboard.press("Tab")
    page.locator("h1").click()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/items/EMPTY-1")

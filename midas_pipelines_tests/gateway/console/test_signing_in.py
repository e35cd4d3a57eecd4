"""Signing in: keys, links, time-outs, lock-out, and what another site could try."""

from __future__ import annotations

import pytest

from midas_pipelines.gateway.console.web import COOKIE, local_path
from midas_pipelines.store.gateway import keys
from midas_pipelines.store.gateway.keys import LINK, Caller, Role, issue_token, revoke_key
from midas_pipelines_tests.gateway.console.visitor import Visitor
from midas_pipelines_tests.shop import rows, run, value


def cookie_of(answer: object) -> str:
    return next(one for one in answer.headers.get_list("set-cookie") if one.startswith(f"{COOKIE}="))  # type: ignore[attr-defined]


@pytest.mark.both_databases
def test_a_key_signs_in_and_its_end_signs_out(visitor: Visitor) -> None:
    assert visitor.client.get("/?q=x").headers["location"] == "/sign-in?next=/%3Fq%3Dx"
    key = visitor.key(Role.OPERATOR)
    answer = visitor.sign_in(key=key)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = cookie_of(answer).lower()
    assert [word in cookie for word in ("httponly", "samesite=lax", "secure")] == [True, True, False]
    assert "Alex Sample" in visitor.see("/")
    assert key not in str(rows(visitor.world.database, "SELECT * FROM midas_console_sessions"))
    with visitor.world.database.writing() as connection:
        revoke_key(connection, key.split("_")[1])
    visitor.see("/", status=303)


def test_a_link_signs_in_once(visitor: Visitor) -> None:
    with visitor.world.database.writing() as connection:
        link = issue_token(connection, LINK, Caller("", "Kim Sample", Role.ADMIN), seconds=300)
    assert visitor.client.get(f"/sign-in?link={link}").headers["location"] == "/"
    assert "Kim Sample" in visitor.see("/")
    visitor.client.cookies.clear()
    assert "used up" in visitor.see(f"/sign-in?link={link}", status=401)
    visitor.see("/", status=303)


@pytest.mark.both_databases
@pytest.mark.parametrize("column", ["seen_at", "valid_until"])
def test_an_idle_and_an_old_session_end(operator: Visitor, column: str) -> None:
    operator.see("/")
    run(
        operator.world.database,
        f"UPDATE midas_console_sessions SET {column} = '2026-01-01 00:00:00.000000+00:00'",
    )
    operator.see("/", status=303)


def test_each_sign_in_has_a_new_token_and_ends_the_one_before(visitor: Visitor) -> None:
    """Session fixation: what an attacker planted is worth nothing, before and after."""
    visitor.client.cookies.set(COOKIE, "planted")
    visitor.sign_in()
    first = visitor.client.cookies.get(COOKIE, domain="console.test") or ""
    assert first != "planted"
    visitor.client.cookies.clear()
    visitor.client.cookies.set(COOKIE, first)
    visitor.sign_in()
    visitor.client.cookies.clear()
    for old in ("planted", first):
        assert visitor.client.get("/", headers={"cookie": f"{COOKIE}={old}"}).status_code == 303


def test_signing_out_ends_the_session_itself(operator: Visitor) -> None:
    token = operator.client.cookies.get(COOKIE)
    operator.client.post("/sign-out", data={"csrf": operator.csrf})
    assert operator.client.get("/", headers={"cookie": f"{COOKIE}={token}"}).status_code == 303


def test_wrong_keys_lock_their_address_out(visitor: Visitor) -> None:
    for _ in range(keys.MOST_FAILURES):
        assert visitor.sign_in(key="midas_x_wrong").status_code == 401
    answer = visitor.sign_in(key="midas_x_wrong")
    assert answer.status_code == 429
    assert "locked out for a while" in answer.text
    audit = rows(visitor.world.database, "SELECT event, status FROM gateway_audit ORDER BY id")
    assert ("refused", 401) in [tuple(row) for row in audit]


@pytest.mark.parametrize("fields", [{}, {"csrf": "0" * 64}])
def test_a_form_of_another_site_changes_nothing(operator: Visitor, fields: dict[str, str]) -> None:
    answer = operator.client.post("/sign-out", data=fields)
    assert answer.status_code == 403
    elsewhere = {"sec-fetch-site": "cross-site"}
    answer = operator.client.post("/sign-out", data={"csrf": operator.csrf}, headers=elsewhere)
    assert answer.status_code == 403
    assert "Sign out" in operator.see("/")
    assert operator.client.post("/sign-in", data={"key": operator.key(Role.ADMIN)}).status_code == 403


def test_no_page_can_be_framed_or_run_a_script_from_elsewhere(operator: Visitor) -> None:
    for path in ("/", "/sign-in", "/docs", "/nothing-here"):
        answer = operator.client.get(path)
        policy = answer.headers.get("content-security-policy", "")
        assert "frame-ancestors 'none'" in policy, path
        assert "script-src 'self';" in policy, path
        assert answer.headers["x-frame-options"] == "DENY"
        assert "http://" not in answer.text.replace("http://console.test", "").replace(
            "http://127.0.0.1", ""
        ), path


@pytest.mark.parametrize(
    ("given", "opened"),
    [
        ("/items?q=1", "/items?q=1"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://x", "/"),
        ("", "/"),
    ],
)
def test_a_sign_in_leads_to_a_page_of_ours(given: str, opened: str) -> None:
    assert local_path(given) == opened


def test_every_click_is_in_the_audit_log_with_the_name(operator: Visitor) -> None:
    operator.client.post("/sign-out", data={"csrf": operator.csrf})
    found = rows(
        operator.world.database, "SELECT event, actor, action, status FROM gateway_audit ORDER BY id"
    )
    assert [(row.event, row.action) for row in found] == [
        ("answered", "POST /sign-in"),
        ("asked", "POST /sign-out"),
        ("answered", "POST /sign-out"),
    ]
    assert all(row.actor.endswith(" Alex Sample") for row in found)
    assert value(operator.world.database, "SELECT count(*) FROM midas_console_sessions") == 0

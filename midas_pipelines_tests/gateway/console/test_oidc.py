"""Signing in by OpenID Connect, against a provider on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from joserfc.jwk import RSAKey

from midas_pipelines.settings import SettingsError, load_settings
from midas_pipelines_tests.gateway.console.provider import Provider, running_provider
from midas_pipelines_tests.gateway.console.visitor import Visitor, visitor_of
from midas_pipelines_tests.shop import rows, run, value
from midas_pipelines_tests.sync.world import World


@pytest.fixture
def provider() -> Iterator[Provider]:
    with running_provider() as found:
        yield found


@pytest.fixture
def visitor(world: World, provider: Provider) -> Iterator[Visitor]:
    settings = {
        "oidc_issuer": provider.issuer,
        "oidc_client_id": "midas",
        "oidc_role_claim": "groups",
        "oidc_operator_values": "shop-staff",
    }
    with visitor_of(world, **settings) as found:
        yield found


def sign_in(visitor: Visitor, provider: Provider) -> Any:
    assert "Sign in with 127.0.0.1" in visitor.see("/sign-in")
    begun = visitor.client.get("/sign-in/oidc?next=/docs")
    assert begun.status_code == 303, begun.text
    return visitor.client.get(provider.authorize(begun.headers["location"]))


def test_a_person_signs_in_with_a_role_and_a_code_works_once(visitor: Visitor, provider: Provider) -> None:
    begun = visitor.client.get("/sign-in/oidc?next=/docs").headers["location"]
    back = provider.authorize(begun)
    answer = visitor.client.get(back)
    assert (answer.status_code, answer.headers["location"]) == (303, "/docs")
    page = visitor.see("/")
    assert "Kim Sample" in page
    assert "operator" in page
    actors = [row.actor for row in rows(visitor.world.database, "SELECT actor FROM gateway_audit")]
    assert any("Kim Sample" in actor for actor in actors)
    assert visitor.client.get(back).status_code == 403


def test_a_role_that_is_taken_away_ends_at_the_next_look(visitor: Visitor, provider: Provider) -> None:
    sign_in(visitor, provider)
    visitor.see("/items?q=x")
    ends = value(visitor.world.database, "SELECT valid_until FROM midas_console_sessions")
    again = "UPDATE midas_console_sessions SET recheck_at = '2026-01-01 00:00:00.000000+00:00'"
    run(visitor.world.database, again)
    asked = visitor.client.get("/items?q=x").headers["location"]
    assert asked == "/sign-in/oidc?next=/items%3Fq%3Dx"
    begun = visitor.client.get(asked)
    assert (
        visitor.client.get(provider.authorize(begun.headers["location"])).headers["location"] == "/items?q=x"
    )
    visitor.see("/items?q=x")
    assert value(visitor.world.database, "SELECT valid_until FROM midas_console_sessions") == ends
    run(visitor.world.database, again)
    provider.claims["groups"] = []
    begun = visitor.client.get("/sign-in/oidc")
    assert visitor.client.get(provider.authorize(begun.headers["location"])).status_code == 403
    visitor.see("/items?q=x", status=303)
    answer = visitor.client.post("/rules", data={"csrf": visitor.csrf}, headers={"referer": "http://x/rules"})
    assert answer.headers["location"] == "/sign-in/oidc?next=/rules"


@pytest.mark.parametrize(
    ("claims", "status", "says"),
    [
        ({"active": False}, 403, "deactivated"),
        ({"groups": ["others"]}, 403, "no role here"),
        ({"groups": None}, 403, "no role here"),
        ({"nonce": "another"}, 401, "not valid"),
        ({"aud": "another"}, 401, "not valid"),
        ({"iss": "https://another.example"}, 401, "not valid"),
        ({"exp": 1}, 401, "not valid"),
    ],
)
def test_who_is_not_let_in_reads_why(
    visitor: Visitor, provider: Provider, claims: dict[str, Any], status: int, says: str
) -> None:
    provider.claims |= claims
    answer = sign_in(visitor, provider)
    assert (answer.status_code, says in answer.text) == (status, True), answer.text
    visitor.see("/", status=303)


def test_a_token_of_another_key_and_an_answer_to_another_browser_are_refused(
    visitor: Visitor, provider: Provider
) -> None:
    provider.key = RSAKey.generate_key(2048, {"kid": "one"})
    assert sign_in(visitor, provider).status_code == 401
    provider.key = provider.published
    begun = visitor.client.get("/sign-in/oidc").headers["location"]
    visitor.client.cookies.clear()
    assert visitor.client.get(provider.authorize(begun)).status_code == 403
    visitor.see("/", status=303)


def test_an_issuer_needs_https() -> None:
    with pytest.raises(SettingsError):
        load_settings(oidc_issuer="http://id.example")
    assert load_settings(oidc_issuer="https://id.example").oidc_issuer

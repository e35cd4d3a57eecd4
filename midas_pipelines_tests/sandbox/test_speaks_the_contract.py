"""The sandbox is held to the document by schemathesis: every operation, every check, and whole histories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings

from midas_pipelines.fourseller.contract import document
from midas_pipelines.sandbox.app import Sandbox
from midas_pipelines.sandbox.config import SandboxConfig

if TYPE_CHECKING:  # it loads for half a second
    import schemathesis

CREDENTIALS = {"openapi": {"bearer": {"bearer": "sandbox-key"}, "seller": {"api_key": "sandbox-seller"}}}
QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


def load() -> schemathesis.BaseSchema:
    """The document, tied to a fresh sandbox with some products and orders in it."""
    import schemathesis

    app = Sandbox(SandboxConfig(seed=1))
    for number in range(3):
        app.state.create({"title": f"Part {number}", "sku": f"S-{number}", "price": "1.00"})
        app.state.place(app.shoppers.order([{"sku": f"S-{number}", "quantity": 1}]))
    config = schemathesis.config.SchemathesisConfig.from_dict({"seed": 1, "auth": CREDENTIALS})
    schema = schemathesis.openapi.from_dict(document(), config=config)
    schema.app = app
    return schema


HOW = {"deadline": None, "derandomize": True, "database": None, "suppress_health_check": QUIET}


@pytest.fixture(scope="module")
def schema() -> schemathesis.BaseSchema:
    return load()


OPERATIONS = [
    (method.upper(), path)
    for path, item in document()["paths"].items()
    for method in item
    if method in ("get", "post", "put", "patch", "delete")
]


@pytest.mark.parametrize("mode", ["positive", "negative"])
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_operation_keeps_the_contract(
    schema: schemathesis.BaseSchema, method: str, path: str, mode: str
) -> None:
    """Made when it runs: `schema.parametrize` makes its cases in every process that collects the tests."""
    from schemathesis import GenerationMode

    @given(case=schema[path][method].as_strategy(generation_mode=GenerationMode(mode)))
    @settings(max_examples=2, **HOW)
    def call(case: Any) -> None:
        case.call_and_validate()

    call()


def test_histories_keep_the_contract() -> None:
    """Create, read, replace, set stock, remove, use after removal: in the orders the document's links allow."""
    load().as_state_machine().run(settings=settings(max_examples=3, stateful_step_count=8, **HOW))


def test_the_checks_would_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks the sandbox on purpose: a proof without teeth proves nothing."""
    broken = load()
    monkeypatch.setattr(broken.app.state, "remove", lambda product_id: None)
    with pytest.raises(BaseExceptionGroup):
        broken.as_state_machine().run(settings=settings(max_examples=30, stateful_step_count=8, **HOW))

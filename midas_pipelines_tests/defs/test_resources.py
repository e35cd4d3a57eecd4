"""The resource's fields take the place of the environment: in code, and in the launchpad for one run."""

from __future__ import annotations

import dagster as dg
import pytest

from midas_pipelines.defs.operations.assets import sync_performance
from midas_pipelines.defs.resources import MidasResource, resources
from midas_pipelines_tests.defs.conftest import failure
from midas_pipelines_tests.sync.world import World


def test_fields_are_set_in_code_and_for_one_run(environment: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIDAS_DATABASE_URL")
    midas = MidasResource(
        database_url=environment.database.engine.url.render_as_string(hide_password=False), in_flight=7
    )
    assert midas.settings().in_flight == 7
    config = {"resources": {"midas": {"config": {"database_url": "mysql://x/y"}}}}
    with dg.DagsterInstance.ephemeral() as instance:
        given = {"instance": instance, "resources": {"midas": midas}, "raise_on_error": False}
        assert dg.materialize([sync_performance], **given).success
        wrong = dg.materialize([sync_performance], run_config=config, **given)
    assert failure(wrong) == "MIDAS_DATABASE_URL must begin with sqlite:/// or postgresql://."


def test_a_secret_is_an_environment_variable_and_never_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("FOURSELLER_API_KEY", "a-secret")
        patch.setattr("midas_pipelines.defs.resources.SETTINGS", MidasResource().settings())
        midas = resources().resources["midas"]
    assert isinstance(midas.fourseller_api_key, dg.EnvVar)
    assert "a-secret" not in repr(midas)

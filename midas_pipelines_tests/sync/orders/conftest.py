from midas_pipelines_tests.sync.conftest import background_sandbox, world  # noqa: F401 - fixtures

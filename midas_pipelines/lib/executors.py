"""Where the steps of a run are executed, as the settings say: in the run's process, in processes of their own, or with the
whole run on a Celery worker."""

from typing import Any

import dagster as dg

from midas_pipelines.settings import Settings, SettingsError


def executor(settings: Settings) -> dg.ExecutorDefinition:
    """The executor of every job. Raises SettingsError where Celery is chosen and its addresses are missing.

    In the run's process is best for small shops, and on a Celery worker, which takes whole runs: starting a process for
    each step takes longer than most steps. The processes of the multiprocess executor are forked from one that has
    loaded everything.
    """
    if settings.executor == "celery":
        settings.queue()
    if settings.executor == "multiprocess":
        preload = {"preload_modules": ["midas_pipelines.definitions"]}
        return dg.multiprocess_executor.configured({"start_method": {"forkserver": preload}})
    return dg.in_process_executor


def make_celery(settings: Settings) -> Any:
    """The Celery application of our workers, with Dagster's tasks: to execute a run, and to resume one.

    A run is confirmed when it has ended, so that no worker holds a second one back. One whose process died fails, and
    Dagster tries it again. Raises SettingsError where an address or the package is missing.
    """
    broker, backend = settings.queue()
    try:
        import dagster_celery.make_app as application
        import dagster_celery.tasks as tasks
    except ImportError:
        raise SettingsError(
            "MIDAS_EXECUTOR is celery, and the package dagster-celery is not installed: "
            "install midas-pipelines[celery]."
        ) from None
    config = {"task_acks_late": True, "worker_prefetch_multiplier": 1}
    app = application.make_app({"broker": broker, "backend": backend, "config_source": config})  # type: ignore[no-untyped-call]
    tasks.create_execute_job_task(app)
    tasks.create_resume_job_task(app)
    return app

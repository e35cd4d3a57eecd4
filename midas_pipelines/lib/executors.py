"""Where the steps of a run are executed, as the settings say: here, in processes of their own, or on Celery workers."""

from typing import Any

import dagster as dg

from midas_pipelines.settings import Settings, SettingsError


def executor(settings: Settings) -> dg.ExecutorDefinition:
    """The executor of every job.

    In this process is best for small shops: starting a process for each step takes longer than most steps. The
    processes of the multiprocess executor are forked from one that has loaded everything.

    Raises:
        SettingsError: Celery is chosen and its addresses, or the package, are missing.
    """
    match settings.executor:
        case "multiprocess":
            preload = {"preload_modules": ["midas_pipelines.definitions"]}
            return dg.multiprocess_executor.configured({"start_method": {"forkserver": preload}})
        case "celery":
            return _celery(settings)
        case _:
            return dg.in_process_executor


def celery_config(settings: Settings) -> dict[str, Any]:
    """Broker and result store, the same for those who ask and for the workers.

    A step is confirmed when it has ended, and given to another worker when its process died under it: it can be
    done twice, since a claim keeps an item from being pushed twice. Where a whole machine went, the run is ended by
    Dagster's run monitoring after `MIDAS_LONGEST_RUN_MINUTES` and tried again.

    Raises:
        SettingsError: an address is missing.
    """
    if settings.celery_broker is None or settings.celery_backend is None:
        raise SettingsError(
            "MIDAS_EXECUTOR is celery, which needs MIDAS_CELERY_BROKER and MIDAS_CELERY_BACKEND: "
            "for example redis://host/0 for both."
        )
    broker = settings.celery_broker.get_secret_value()
    late = {"task_acks_late": True, "task_reject_on_worker_lost": True, "worker_prefetch_multiplier": 1}
    redelivery = (
        {"visibility_timeout": settings.longest_run_minutes * 60} if broker.startswith("redis") else {}
    )
    return {
        "broker": broker,
        "backend": settings.celery_backend.get_secret_value(),
        "config_source": late | {"broker_transport_options": redelivery},
    }


def make_celery(settings: Settings) -> Any:
    """The Celery application of our workers, with Dagster's one task. Raises SettingsError when an address is missing."""
    import dagster_celery.make_app as application
    import dagster_celery.tasks as tasks

    app = application.make_app(celery_config(settings))  # type: ignore[no-untyped-call]
    tasks.create_task(app)  # type: ignore[no-untyped-call]
    return app


def _celery(settings: Settings) -> dg.ExecutorDefinition:
    config = celery_config(settings)
    try:
        from dagster_celery import celery_executor
    except ImportError:
        raise SettingsError(
            "MIDAS_EXECUTOR is celery, and the package dagster-celery is not installed: "
            "install midas-pipelines[celery]."
        ) from None
    return celery_executor.configured(config, name="celery")

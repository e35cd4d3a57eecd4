"""The sandbox as one ASGI application: the API under /v1, its controls under /__sandbox, a page at /."""

from starlette.types import ASGIApp, Receive, Scope, Send

from midas_pipelines.fourseller.contract import BASE_PATH
from midas_pipelines.sandbox.api import Api, CallLog
from midas_pipelines.sandbox.config import SandboxConfig
from midas_pipelines.sandbox.control import control_routes
from midas_pipelines.sandbox.faults import Faults, RateLimit
from midas_pipelines.sandbox.habits import Habits
from midas_pipelines.sandbox.habits.writes import ELSEWHERE
from midas_pipelines.sandbox.shoppers import Shoppers
from midas_pipelines.sandbox.state import State
from midas_pipelines.sandbox.webhooks import Webhooks


class Sandbox:
    """The parts of one sandbox; itself the ASGI application."""

    def __init__(self, config: SandboxConfig) -> None:
        self.config = config
        self.state = State(
            honour_idempotency_key=config.honour_idempotency_key, unique_skus=config.unique_skus
        )
        if config.state_file:
            self.state.open(config.state_file)
        self.faults = Faults(config)
        self.limit = RateLimit(config.rate_limit, config.burst)
        self.calls = CallLog()
        self.webhooks = Webhooks(config)
        self.habits = Habits(self.state, config.habits)
        self.state.listeners.append(
            lambda event, row: self.webhooks.send(event, self.habits.for_webhook(event, row))
        )
        self.shoppers = Shoppers(self.state, config.seed)
        self._api = Api(config, self.state, self.faults, self.limit, self.calls, self.habits)
        self._rest: ASGIApp = control_routes(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The API's calls go straight to it; the rest through the router."""
        if scope["type"] == "http" and scope["path"].startswith((BASE_PATH + "/", ELSEWHERE + "/")):
            await self._api(scope, receive, send)
        else:
            await self._rest(scope, receive, send)

    async def start(self) -> None:
        """Starts the background tasks."""
        self.shoppers.set_rate(self.config.shoppers_rate)

    async def stop(self) -> None:
        """Stops the background tasks and closes the file."""
        self.shoppers.set_rate(0)
        await self.webhooks.stop()
        self.state.close()


def create_app(config: SandboxConfig | None = None) -> Sandbox:
    """The ASGI application of a sandbox."""
    return Sandbox(config or SandboxConfig())

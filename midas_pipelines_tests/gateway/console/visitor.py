"""A person's browser without JavaScript: it keeps cookies, follows links, and sends the forms that a page has."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import unescape
from typing import Any

import httpx
from fastapi import FastAPI

from midas_pipelines.gateway.app import create_app
from midas_pipelines.gateway.console.web import COOKIE, csrf_of
from midas_pipelines.gateway.service import Service
from midas_pipelines.store.gateway.keys import Role, create_key
from midas_pipelines_tests.sync.world import World


class InProcess:
    """Calls an application without a network."""

    def __init__(self, app: FastAPI) -> None:
        self._runner = asyncio.Runner()
        transport = httpx.ASGITransport(app)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://console.test")
        self.cookies = self._client.cookies

    def get(self, path: str, **options: Any) -> httpx.Response:
        """A page, as a browser asks for it."""
        options["headers"] = {"accept": "text/html"} | options.get("headers", {})
        return self._runner.run(self._client.get(path, **options))

    def post(self, path: str, **options: Any) -> httpx.Response:
        """A form."""
        return self._runner.run(self._client.post(path, **options))

    def wait(self, until: Callable[[], object]) -> None:
        """Lets what clicks began go on until something is so; fails after ten seconds."""

        async def look() -> None:
            async with asyncio.timeout(10):
                while not until():  # noqa: ASYNC110 - what it waits for is another process, or the database
                    await asyncio.sleep(0.01)

        self._runner.run(look())

    def close(self, service: Service) -> None:
        """Ends what clicks began, as the gateway does when it stops."""

        async def end() -> None:
            await service.background.stop()
            await service.imports.stop()
            await self._client.aclose()

        self._runner.run(end())
        self._runner.close()


class Visitor:
    """One browser at one console."""

    def __init__(self, world: World, service: Service) -> None:
        self.world, self.service = world, service
        self.app = create_app(service)
        self.client = InProcess(self.app)

    def key(self, role: Role, name: str = "Alex Sample") -> str:
        """A new key."""
        with self.world.database.writing() as connection:
            return create_key(connection, name=name, role=role)[1]

    def sign_in(self, role: Role = Role.OPERATOR, key: str | None = None) -> Any:
        """Fills the form in."""
        form = self.client.get("/sign-in")
        csrf = re.search(r'name="csrf" value="(\w+)"', form.text)
        assert csrf is not None
        return self.client.post("/sign-in", data={"csrf": csrf[1], "key": key or self.key(role)})

    def see(self, path: str, status: int = 200) -> str:
        """The page's HTML."""
        answer = self.client.get(path)
        assert answer.status_code == status, (path, answer.status_code, answer.text[-2000:])
        return answer.text

    def click(self, path: str, **fields: Any) -> str:
        """Sends a form with the session's own token; returns the notice of the page that it leads to."""
        answer = self.client.post(path, data={"csrf": self.csrf, **fields})
        assert answer.status_code == 303, (answer.status_code, answer.text[-2000:])
        page = self.see(answer.headers["location"])
        found = re.search(r'role="status"><p>(.*?)</p>(.*?)</div>', page, re.DOTALL)
        self.undo_form = found[2] if found else ""
        return unescape(found[1]) if found else ""

    def undo(self) -> str:
        """Clicks the button beside the last notice, or once more; returns the next notice."""
        form = self.undo_form
        path = re.search(r'action="(.*?)"', form)
        assert path is not None, "there is no such button"
        fields = dict(re.findall(r'name="(.*?)" value="(.*?)"', form))
        said = self.click(unescape(path[1]), **{name: unescape(one) for name, one in fields.items()})
        self.undo_form = form
        return said

    @property
    def csrf(self) -> str:
        """The token that this session's pages put into forms."""
        return csrf_of(self.client.cookies.get(COOKIE) or "")


@contextmanager
def visitor_of(world: World, **changes: Any) -> Iterator[Visitor]:
    """A browser at a console without a worker."""
    world.changes |= {"gateway_rate": 10_000} | changes
    service = Service(world.settings, world.database, with_worker=False)
    visitor = Visitor(world, service)
    yield visitor
    visitor.client.close(service)
    for database in (service.database, service.door, service.workshop):
        database.close()

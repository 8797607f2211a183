"""Functions are served as the platform serves them: by name, behind a token, with few rights."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from yarl import URL

from sandbox.functions import Functions
from sandbox.ports import free_port
from sandbox.tokens import Tokens
from tests.processes import descendants, left_after

JWT_SECRET = "a-secret-of-the-project-that-is-long-enough"
GREET = """
Deno.serve(async (request) => {
  return Response.json({ said: await request.text(), path: new URL(request.url).pathname });
});
"""
# Each attempt answers with what came of it.
ATTEMPTS = """
Deno.serve(async (request) => {
  const given = await request.json();
  const attempts: Record<string, () => unknown> = {
    read: () => Deno.readTextFileSync(given.value),
    write: () => Deno.writeTextFileSync(given.value, "x"),
    run: () => new Deno.Command(given.value).outputSync(),
    environment: () => Deno.env.get(given.value) ?? null,
    network: async () => (await fetch(given.value)).status,
  };
  try {
    return Response.json({ done: await attempts[given.attempt]() ?? null });
  } catch (error) {
    return Response.json({ failed: error.name });
  }
});
"""
Ask = Callable[..., Coroutine[Any, Any, tuple[int, Any]]]


class Project:
    """A folder of functions, and a server that answers for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.functions: Functions | None = None
        self.token = Tokens(JWT_SECRET).api_key("anon", int(time.time()))

    def add(self, name: str, source: str) -> None:
        """Write a function."""
        place = self.folder / "functions" / name
        place.mkdir(parents=True)
        (place / "index.ts").write_text(source)

    def configure(self, text: str) -> None:
        """Write config.toml."""
        (self.folder / "config.toml").write_text(text)

    def run(self, scenario: Callable[[Ask], Coroutine[Any, Any, None]], **settings: str) -> None:
        """Serve while a scenario asks."""

        async def serve() -> None:
            functions = self.functions = Functions(self.folder, self.folder, JWT_SECRET, settings)
            application = web.Application()
            application.router.add_route("*", "/functions/v1/{path:.*}", functions.handle)
            server = TestServer(application)
            await server.start_server()
            try:
                async with ClientSession() as session:

                    async def ask(name: str, token: str | None = self.token, **request: Any) -> tuple[int, Any]:
                        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
                        url = URL(f"{server.make_url('/functions/v1/')}{name}", encoded=True)
                        async with session.request(
                            request.pop("method", "POST"), url, headers=headers, **request
                        ) as answer:
                            is_json = answer.content_type == "application/json"
                            return answer.status, await answer.json() if is_json else None

                    await scenario(ask)
            finally:
                await functions.stop()
                await server.close()

        asyncio.run(serve())

    def log(self) -> str:
        assert self.functions is not None
        return self.functions.log.read_text()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with one function."""
    project = Project(tmp_path)
    project.add("greet", GREET)
    return project


def _children() -> set[int]:
    """The processes of this project's function: whole sandboxes may be running below this process too."""
    return {pid for pid, command in descendants(os.getpid()).items() if "greet/index.ts" in command}


def test_a_function_is_given_the_request_as_it_came(project: Project) -> None:
    async def scenario(ask: Ask) -> None:
        assert await ask("greet", data="hello") == (200, {"said": "hello", "path": "/greet"})
        assert await ask("greet/deep%20er", data="") == (200, {"said": "", "path": "/greet/deep%20er"})

    project.run(scenario)


def test_names_that_are_none_lead_nowhere(project: Project) -> None:
    (project.folder / "index.ts").write_text(GREET)
    project.add("_shared", GREET)
    project.add("off", GREET)
    project.configure("[functions.off]\nenabled = false\n")

    async def scenario(ask: Ask) -> None:
        for name in ("nothing", "_shared", "off", "", ".", "..", "%2e%2e", "%2fgreet", "../functions/greet"):
            status, body = await ask(name)
            assert status == 404, name
            assert body is None or body["code"] == "NOT_FOUND"

    project.run(scenario)


def test_a_token_is_asked_for_unless_the_project_says_otherwise(project: Project) -> None:
    project.add("open", GREET)
    project.configure("[functions.open]\nverify_jwt = false\n")
    expired = Tokens(JWT_SECRET).api_key("anon", int(time.time()) - 20 * 365 * 86_400)
    foreign = Tokens(JWT_SECRET[::-1]).api_key("service_role", int(time.time()))

    async def scenario(ask: Ask) -> None:
        assert await ask("greet", None) == (401, {"code": 401, "message": "Missing authorization header"})
        for token in (expired, foreign, "nonsense"):
            assert await ask("greet", token) == (401, {"code": 401, "message": "Invalid JWT"})
            assert (await ask("open", token, data=""))[0] == 200
        assert (await ask("open", None, data=""))[0] == 200
        assert (await ask("greet", None, method="OPTIONS"))[0] == 200

    project.run(scenario)


def test_a_function_may_do_nothing_but_what_it_is_for(project: Project, tmp_path: Path) -> None:
    project.add("attempt", ATTEMPTS)
    (tmp_path / "file").write_text("secret")

    async def elsewhere(_: web.Request) -> web.Response:
        return web.Response()

    async def scenario(ask: Ask) -> None:
        other, allowed = TestServer(web.Application()), TestServer(web.Application(), port=reserved)
        for server in (other, allowed):
            server.app.router.add_get("/", elsewhere)
        await other.start_server()
        await allowed.start_server()

        async def attempt(kind: str, value: str) -> Any:
            return (await ask("attempt", json={"attempt": kind, "value": value}))[1]

        try:
            assert await attempt("network", str(allowed.make_url("/"))) == {"done": 200}
            assert await attempt("environment", "SUPABASE_URL") == {"done": str(allowed.make_url("/"))}
            assert await attempt("environment", "CREDENTIALS_KEYS") == {"done": None}  # unset, as on the platform
            for kind, value in (
                ("network", str(other.make_url("/"))),
                ("environment", "HOME"),
                ("read", str(tmp_path / "file")),
                ("write", str(tmp_path / "new")),
                ("run", sys.executable),
            ):
                assert await attempt(kind, value) == {"failed": "NotCapable"}, kind
        finally:
            await other.close()
            await allowed.close()

    reserved = free_port()
    project.run(scenario, SUPABASE_URL=f"http://127.0.0.1:{reserved}/")


def test_a_function_starts_once_and_again_when_it_died(project: Project) -> None:
    async def scenario(ask: Ask) -> None:
        await asyncio.gather(*(ask("greet", data="") for _ in range(10)))
        [first] = _children()
        os.kill(first, signal.SIGKILL)
        assert left_after([first], 5) == []
        assert (await ask("greet", data=""))[0] == 200
        assert len(_children()) == 1
        assert first not in _children()

    project.run(scenario)
    assert _children() == set()


def test_one_that_does_not_start_says_where_to_look(project: Project) -> None:
    project.add("broken", "this is no TypeScript")

    async def scenario(ask: Ask) -> None:
        status, body = await ask("broken")
        assert (status, body["code"]) == (503, "BOOT_ERROR")
        assert "functions.log" in body["message"]
        assert (await ask("greet", data=""))[0] == 200

    project.run(scenario)
    assert "index.ts" in project.log()


def test_secrets_are_in_no_argument(project: Project) -> None:
    async def scenario(ask: Ask) -> None:
        await ask("greet", data="")
        assert _children()
        assert not any("hidden-value" in command for command in descendants(os.getpid()).values())

    project.run(scenario, CREDENTIALS_KEYS="hidden-value")


def test_nothing_is_left_of_them_when_their_server_is_killed(project: Project) -> None:
    program = f"""
import asyncio, sys
from pathlib import Path
from sandbox.functions import Functions
async def main():
    functions = Functions(Path({str(project.folder)!r}), Path({str(project.folder)!r}), "x", {{}})
    await functions._process("greet")
    print("ready", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        children = list(descendants(server.pid))
        assert len(children) == 1
        server.kill()
        assert left_after(children, 3) == []

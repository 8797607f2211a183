"""The stack started inside a program."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
from aiohttp import web

from sandbox.stack import Options, Stack


def test_a_program_can_hold_the_stack_itself(tmp_path: Path) -> None:
    async def use() -> list[int]:
        stack = Stack(Options(tmp_path / "data", fsync=False))
        await stack.start()
        try:
            url, key = stack.env["SUPABASE_URL"], stack.env["SUPABASE_ANON_KEY"]
            assert stack.gateway is not None
            stack.gateway.functions = _answer
            async with aiohttp.ClientSession(headers={"apikey": key}) as session:
                paths = ["/rest/v1/", "/auth/v1/settings", "/functions/v1/greet"]
                answers = [await session.get(url + path) for path in paths]
                return [answer.status for answer in answers]
        finally:
            await stack.stop()
            await stack.stop()

    assert asyncio.run(use()) == [200, 200, 418]


async def _answer(_: web.Request) -> web.StreamResponse:
    return web.Response(status=418)

"""The clients that producers have, unmodified: PyPI's supabase and npm's supabase-js."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from supabase import acreate_client
from tests.end_to_end.books import assert_books
from tests.end_to_end.product import Project, Worker

# Of supabase-py's own making: it hands its parts settings that they have deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:The '.*' parameter is deprecated:DeprecationWarning")

SCRIPT = """
const { createClient } = require('@supabase/supabase-js')
const [url, key, row] = process.argv.slice(2)
const supabase = createClient(url, key, { realtime: { transport: require('ws') } })
supabase.from('signals').insert(JSON.parse(row)).select('id').single().then(({ data, error }) => {
  if (error) throw error
  console.log(JSON.stringify(data))
})
"""


def test_a_row_inserted_by_supabase_py_becomes_an_open_position(project: Project, worker: Worker) -> None:
    user = project.sign_up()

    async def insert() -> str:
        client: Any = await acreate_client(project.env["SUPABASE_URL"], project.env["SUPABASE_SERVICE_ROLE_KEY"])
        row = {"user_id": user.id, "trader_id": user.trader_id, "symbol": "BTC/USDT", "decision": "enter_trade"}
        try:
            answer = await client.table("signals").insert(row).execute()
        finally:
            await client.postgrest.aclose()
            await client.auth.close()
        return answer.data[0]["id"]

    project.wait_for([asyncio.run(insert())])
    assert_books(project, user)


def test_a_row_inserted_by_supabase_js_becomes_an_open_position(
    project: Project, worker: Worker, supabase_js: Path
) -> None:
    user = project.sign_up()
    row = {"user_id": user.id, "trader_id": user.trader_id, "symbol": "BTC/USDT", "decision": "enter_trade"}
    script = supabase_js / "insert.js"
    script.write_text(SCRIPT)
    node = shutil.which("node")
    assert node is not None
    done = subprocess.run(
        [node, script, project.env["SUPABASE_URL"], project.env["SUPABASE_SERVICE_ROLE_KEY"], json.dumps(row)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    project.wait_for([json.loads(done.stdout)["id"]])
    assert_books(project, user)

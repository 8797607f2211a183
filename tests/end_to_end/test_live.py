"""Live trading as it is, but for where the names lead: unmodified URLs, TLS, and the sandbox's exchange behind them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.end_to_end.product import Project, Worker, launch_worker, wait_until
from tests.end_to_end.testnet import (
    SHORT,
    asked,
    join_testnet,
    refused,
    settled,
)
from tests.end_to_end.tls_front import Front, tls_front
from tests.end_to_end.venue_ledger import assert_ledger_equals_rows

RESTS = """
  select from orders as o join positions as p on p.id = o.position_id where p.signal_id = %s and o.status = 'submitted'
"""
LIVE_NAMES = {"api.binance.com", "stream.binance.com", "ws-api.binance.com"}


@pytest.fixture(scope="module")
def front(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    port = urlsplit(project.env["EXCHANGE_BASE_URL"]).port
    assert port is not None
    with tls_front(port, tmp_path_factory.mktemp("front")) as front:
        yield front


def launch_pinned(project: Project, front: Front, log: Path, modes: str) -> Worker:
    """A worker whose exchange is behind the front, by its real names."""
    worker = launch_worker(
        project.env,
        log,
        module="tests.end_to_end.pinned_worker",
        **SHORT,
        EXCHANGE_BASE_URL="",
        ALLOWED_MODES=modes,
        PINNED_PORT=str(front.port),
        PINNED_CA=str(front.authority),
    )
    worker.wait_for("ready")
    return worker


def test_a_live_signal_becomes_an_order_at_the_live_exchange_and_nowhere_else(
    project: Project, front: Front, tmp_path: Path
) -> None:
    worker = launch_pinned(project, front, tmp_path / "log", "paper,live")
    try:
        live, paper, testnet = join_testnet(project, mode="live"), project.sign_up(), join_testnet(project)
        order = settled(project, project.signal(live, "ETH/USDT"), "open")
        assert (order["status"], order["mode"], order["is_paper_trade"]) == ("filled", "live", False)
        assert_ledger_equals_rows(project, live)
        project.wait_for([project.signal(paper)])
        row = refused(project, project.signal(testnet))
        assert row["refusal_code"] == "mode_not_allowed"
        assert asked(project, "POST /api/v3/order", testnet) == 0
        assert front.names <= LIVE_NAMES
        assert "api.binance.com" in front.names
    finally:
        worker.end()


def test_live_and_testnet_side_by_side_keep_to_their_own_keys_and_names(
    project: Project, front: Front, tmp_path: Path
) -> None:
    worker = launch_pinned(project, front, tmp_path / "log", "testnet,live")
    try:
        live, testnet = join_testnet(project, mode="live"), join_testnet(project)
        for user in (live, testnet):
            signal = project.signal(user, "ETH/USDT", order_type="limit", limit_price="1000")
            wait_until("it rests", lambda signal=signal: project.rows(RESTS, signal))
            assert asked(project, "POST /api/v3/order", user) == 1
        wait_until("both streams stand", lambda: {"ws-api.binance.com", "ws-api.testnet.binance.vision"} <= front.names)
        keys = project.rows("select user_id::text, mode from key_access_log where outcome = 'decrypted'")
        assert {(row["user_id"], row["mode"]) for row in keys} >= {(live.id, "live"), (testnet.id, "testnet")}
        assert (testnet.id, "live") not in {(row["user_id"], row["mode"]) for row in keys}
    finally:
        worker.end()


def test_live_is_served_only_where_it_is_named(project: Project, tmp_path: Path) -> None:
    worker = launch_worker(project.env, tmp_path / "log", **SHORT)
    try:
        worker.wait_for("ready")
        live = join_testnet(project, mode="live")
        assert refused(project, project.signal(live))["refusal_code"] == "mode_not_allowed"
        assert asked(project, "POST /api/v3/order", live) == 0
    finally:
        worker.end()

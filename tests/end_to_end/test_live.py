"""Live trading as it is, but for where the names lead: unmodified URLs, TLS, and the sandbox's exchange behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.end_to_end.conftest import StartWorker
from tests.end_to_end.product import Project, Worker, launch_worker, wait_until
from tests.end_to_end.testnet import (
    SHORT,
    TestnetUser,
    asked,
    entry,
    join_testnet,
    move,
    refused,
    settled,
)
from tests.end_to_end.tls_front import Front, tls_front
from tests.end_to_end.venue_ledger import assert_ledger_equals_rows

RESTS = """
  select from orders as o join positions as p on p.id = o.position_id where p.signal_id = %s and o.status = 'submitted'
"""
LIVE_NAMES = {"api.binance.com", "stream.binance.com", "ws-api.binance.com"}
ORDER = "POST /api/v3/order"
LaunchPinned = Callable[..., Worker]


@pytest.fixture
def front(project: Project, tmp_path: Path) -> Iterator[Front]:
    port = urlsplit(project.env["EXCHANGE_BASE_URL"]).port
    assert port is not None
    with tls_front(port, tmp_path) as front:
        yield front


@pytest.fixture
def launch_pinned(project: Project, front: Front, tmp_path: Path) -> Iterator[LaunchPinned]:
    """Start a worker whose exchange is behind the front, by its real names."""
    launched: list[Worker] = []

    def launch(modes: str, **settings: str) -> Worker:
        worker = launch_worker(
            project.env,
            tmp_path / "log",
            module="tests.end_to_end.pinned_worker",
            **SHORT,
            EXCHANGE_BASE_URL="",
            ALLOWED_MODES=modes,
            PINNED_PORT=str(front.port),
            PINNED_CA=str(front.authority),
            **settings,
        )
        launched.append(worker)
        worker.wait_for("ready")
        return worker

    yield launch
    for worker in launched:
        worker.end()


def rest(project: Project, user: TestnetUser) -> str:
    """A signal whose order rests far below the market."""
    signal = project.signal(user, "ETH/USDT", order_type="limit", limit_price="1000")
    wait_until("it rests", lambda: project.rows(RESTS, signal))
    return signal


def test_a_live_signal_becomes_an_order_at_the_live_exchange_and_nowhere_else(
    project: Project, front: Front, launch_pinned: LaunchPinned
) -> None:
    launch_pinned("paper,live")
    live, paper, testnet = join_testnet(project, mode="live"), project.sign_up(), join_testnet(project)
    order = settled(project, project.signal(live, "ETH/USDT"), "open")
    assert (order["status"], order["mode"], order["is_paper_trade"]) == ("filled", "live", False)
    assert asked(project, ORDER, live) == 1
    assert_ledger_equals_rows(project, live)
    project.wait_for([project.signal(paper)])
    row = refused(project, project.signal(testnet))
    assert row["refusal_code"] == "mode_not_allowed"
    assert asked(project, ORDER, testnet) == 0
    assert front.names <= LIVE_NAMES
    assert front.hosts_of(live.api_key) == {"api.binance.com"}
    assert front.hosts_of(testnet.api_key) == set()


def test_live_and_testnet_side_by_side_keep_to_their_own_keys_and_names(
    project: Project, front: Front, launch_pinned: LaunchPinned
) -> None:
    launch_pinned("testnet,live")
    live, testnet = join_testnet(project, mode="live"), join_testnet(project)
    for user in (live, testnet):
        rest(project, user)
        assert asked(project, ORDER, user) == 1
    wait_until("both streams stand", lambda: {"ws-api.binance.com", "ws-api.testnet.binance.vision"} <= front.names)
    assert front.hosts_of(live.api_key) == {"api.binance.com"}
    assert front.hosts_of(testnet.api_key) == {"testnet.binance.vision"}
    keys = project.rows("select user_id::text, mode from key_access_log where outcome = 'decrypted'")
    of = {user.id: {row["mode"] for row in keys if row["user_id"] == user.id} for user in (live, testnet)}
    assert of == {live.id: {"live"}, testnet.id: {"testnet"}}


def test_a_user_with_keys_for_both_trades_live_under_the_live_one_and_without_it_not_at_all(
    project: Project, front: Front, launch_pinned: LaunchPinned
) -> None:
    launch_pinned("testnet,live")
    testnet = join_testnet(project)
    live = move(project, testnet, "live")
    assert settled(project, project.signal(live, "ETH/USDT"), "open")["mode"] == "live"
    which = {"exchange": "binance", "mode": "live"}
    project.request("POST", "/functions/v1/revoke-api-keys", live.token, json=which).raise_for_status()
    assert refused(project, project.signal(live, "BTC/USDT"))["refusal_code"] == "keys_missing"
    assert (asked(project, ORDER, live), asked(project, ORDER, testnet)) == (1, 0)
    assert front.hosts_of(live.api_key) == {"api.binance.com"}
    assert front.hosts_of(testnet.api_key) == set()


def test_a_host_that_is_not_the_exchanges_is_not_reached_and_trading_goes_on(
    project: Project, front: Front, launch_pinned: LaunchPinned
) -> None:
    worker = launch_pinned("live", PINNED_DENIED="ws-api.binance.com")
    live = join_testnet(project, mode="live")
    signal = rest(project, live)
    worker.wait_for("a connection to ws-api.binance.com:443 was stopped: it is no host of this exchange")
    project.venue("POST", "price", {"symbol": "ETHUSDT", "price": "900"})
    try:
        settled(project, signal, "open")
        assert_ledger_equals_rows(project, live)
        assert front.names == LIVE_NAMES - {"ws-api.binance.com"}
    finally:
        project.venue("POST", "price", {"symbol": "ETHUSDT", "price": None})


def test_an_order_that_is_answered_with_a_redirect_is_found_and_never_sent_again(
    project: Project, front: Front, launch_pinned: LaunchPinned
) -> None:
    worker = launch_pinned("live")
    live = join_testnet(project, mode="live")
    front.redirects[b"POST /api/v3/order "] = "https://elsewhere.example/api/v3/order"
    signal = project.signal(live, "ETH/USDT")
    settled(project, signal, "open")
    assert front.redirects == {}
    assert entry(project, signal)["status"] == "filled"
    assert asked(project, ORDER, live) == 1
    assert_ledger_equals_rows(project, live)
    worker.wait_for("api.binance.com answered POST with a redirect, which was not followed")
    assert front.names <= LIVE_NAMES


def test_live_is_served_only_where_it_is_named(project: Project, start_worker: StartWorker) -> None:
    start_worker(**SHORT)
    live = join_testnet(project, mode="live")
    assert refused(project, project.signal(live))["refusal_code"] == "mode_not_allowed"
    assert asked(project, ORDER, live) == 0

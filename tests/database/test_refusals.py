"""Each rule that rows decide: its code, its sentence, its numbers; at the limit, under it and over it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tests.database.project import Project
from tests.database.trading import Worker


def _refused(project: Project, signal_id: UUID, status: str = "rejected") -> tuple[str, str, str | None, str | None]:
    row = project.signal_row(signal_id)
    assert row["status"] == status
    assert row["closed_at"] is not None
    code, rule_value, limit_value = project.owner.rows(
        "select code, rule_value, limit_value from public.risk_refusals where signal_id = %s", signal_id
    )[0]
    assert code == row["refusal_code"]
    return code, row["refusal_reason"], rule_value, limit_value


def test_a_trader_of_another_user(project: Project, alice: UUID, bob: UUID) -> None:
    signal_id = project.signal(alice, project.trader(bob))
    assert project.worker().claimed() == []
    assert _refused(project, signal_id) == (
        "trader_not_owned",
        "The signal names a trader of another user.",
        None,
        None,
    )


def test_a_trader_that_is_switched_off(project: Project, alice: UUID) -> None:
    signal_id = project.signal(alice, project.trader(alice, enabled=False))
    assert project.worker().claimed() == []
    assert _refused(project, signal_id)[:2] == ("trader_disabled", "The trader trend is switched off.")


def test_a_mode_that_nobody_trades_in(project: Project, alice: UUID) -> None:
    signal_id = project.signal(alice, project.trader(alice, "live"))
    worker = project.worker("paper", "testnet")
    assert worker.claimed(signal_id) == []
    assert project.signal_row(signal_id)["status"] == "ready"  # the sweep answers, not a hint
    worker.claim()
    assert _refused(project, signal_id) == (
        "mode_not_allowed",
        "The trader is in live mode, which no running worker trades in.",
        "live",
        None,
    )


def test_a_mode_that_another_worker_trades_in_is_left_to_it(project: Project, alice: UUID) -> None:
    signal_id = project.signal(alice, project.trader(alice, "live"))
    live = project.worker("live")
    project.worker("paper").claim()
    assert live.claimed() == [signal_id]


@pytest.mark.parametrize(("mode", "other"), [("live", "testnet"), ("testnet", "live")])
def test_no_keys_of_the_traders_mode(project: Project, alice: UUID, mode: str, other: str) -> None:
    trader_id, worker = project.trader(alice, mode), project.worker("paper", "testnet", "live")
    project.keys(alice, other)
    claimed = project.signal(alice, trader_id)
    worker.claim()
    plan = worker.plan(worker.brief(claimed))
    project.service().call("revoke_credentials", p_user_id=alice, p_exchange="binance", p_mode=mode)
    assert worker.admit(claimed, plan)["code"] == "keys_missing"
    later = project.signal(alice, trader_id)
    assert worker.claimed() == []
    for signal_id in (claimed, later):
        assert _refused(project, signal_id)[:2] == ("keys_missing", f"Store your exchange keys for {mode} first.")
    assert project.owner.value("select count(*) from public.orders") == 0
    worker.admitted(project.signal(alice, project.trader(alice)))  # paper needs none


def test_a_signal_past_its_end(project: Project, alice: UUID) -> None:
    signal_id = project.signal(alice, project.trader(alice), expires_at="2001-02-03T04:05:06+00:00")
    project.worker().claim()
    code, reason, _, limit = _refused(project, signal_id, "expired")
    assert (code, reason) == ("signal_expired", "The signal expired at 2001-02-03 04:05:06 UTC.")
    assert limit == "2001-02-03 04:05:06 UTC"


def test_a_signal_that_is_too_old(project: Project, alice: UUID) -> None:
    signal_id = project.signal(alice, project.trader(alice))
    worker = project.worker(max_age=0.001)
    worker.claim()
    code, reason, _, limit = _refused(project, signal_id, "expired")
    assert (code, limit) == ("signal_expired", "0.001")
    assert reason.endswith("s old, above the limit of 0.001 s.")


def test_a_paused_account(project: Project, alice: UUID) -> None:
    trader_id = project.trader(alice)
    project.user(alice).call("pause_trading", p_reason="holiday")
    signal_id = project.signal(alice, trader_id)
    project.worker().claim()
    assert _refused(project, signal_id)[:3] == ("trading_paused", "Trading is paused by the user: holiday.", "user")


def test_a_paused_trader(project: Project, alice: UUID) -> None:
    paused, other = project.trader(alice), project.trader(alice)
    project.limit(alice, paused, trading_paused=True, paused_by="limit")
    signals = [project.signal(alice, trader_id) for trader_id in (paused, other)]
    assert project.worker().claimed() == [signals[1]]
    assert _refused(project, signals[0])[:2] == ("trading_paused", "Trading of this trader is paused by the limit.")


def test_everybody_stopped(project: Project, alice: UUID) -> None:
    signal_id = project.signal(alice, project.trader(alice))
    project.service().call("emergency_stop")
    project.worker().claim()
    assert _refused(project, signal_id)[:2] == (
        "trading_paused",
        "Trading is stopped for everybody: emergency stop.",
    )


SCOPES = ("account", "trader")


@pytest.mark.parametrize("scope", SCOPES)
def test_open_positions(project: Project, alice: UUID, scope: str) -> None:
    trader_id, worker = project.trader(alice), project.worker()
    project.limit(alice, trader_id if scope == "trader" else None, max_open_positions=2)
    project.open_position(worker, alice, trader_id)
    worker.admitted(project.signal(alice, trader_id))  # in flight counts
    third = project.signal(alice, trader_id)
    assert worker.claimed() == []
    suffix = " by this trader" if scope == "trader" else ""
    assert _refused(project, third) == (
        "max_open_positions",
        f"2 positions are open or being opened{suffix}; the limit is 2.",
        "2",
        "2",
    )


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize(("limit", "outcome"), [("250", "admitted"), ("249.99999999", "refused")])
def test_exposure(project: Project, alice: UUID, scope: str, limit: str, outcome: str) -> None:
    trader_id, worker = project.trader(alice), project.worker()
    project.limit(alice, trader_id if scope == "trader" else None, max_total_exposure_usdt=limit)
    opened = worker.admitted(project.signal(alice, trader_id), price="120")
    worker.record(opened["order_id"], status="filled", fills=[worker.fill("1", "100", "1")])  # cheaper than feared
    worker.admitted(project.signal(alice, trader_id), quantity="0.5")  # at worst 50
    signal_id = project.signal(alice, trader_id)
    worker.claim()
    answer = worker.admit(signal_id, worker.plan(worker.brief(signal_id)))
    assert answer["outcome"] == outcome
    if outcome == "refused":
        suffix = " of this trader" if scope == "trader" else ""
        assert _refused(project, signal_id) == (
            "exposure_limit",
            f"The exposure{suffix} would be 250 USDT (150 USDT now, 100 USDT at worst for this entry); "
            "the limit is 249.99999999 USDT.",
            "250",
            "249.99999999",
        )


def test_exposure_counts_what_a_resting_entry_may_still_buy(project: Project, alice: UUID) -> None:
    trader_id, worker = project.trader(alice), project.worker()
    project.limit(alice, max_total_exposure_usdt=195)
    plan = worker.admitted(project.signal(alice, trader_id))
    worker.record(plan["order_id"], status="partially_filled", fills=[worker.fill("1", "90", "0.5")])
    signals = [project.signal(alice, trader_id) for _ in range(2)]
    worker.claim()
    # 45 bought and 50 still to buy at worst: 95, so that 100 fit exactly.
    assert worker.admit(signals[0], worker.plan(worker.brief(signals[0])))["outcome"] == "admitted"
    assert worker.brief(signals[1]) is None
    assert _refused(project, signals[1])[1] == "The exposure is 195 USDT; the limit is 195 USDT."


def test_exposure_counts_what_is_cancelled_and_may_still_have_bought(project: Project, alice: UUID) -> None:
    trader_id, worker = project.trader(alice, "testnet"), project.worker("testnet")
    project.limit(alice, max_total_exposure_usdt=150)
    plan = worker.admitted(project.signal(alice, trader_id))
    for report in ({"status": "submitted"}, {"status": "cancelled", "final": False}):
        worker.record(plan["order_id"], **report)
    second = project.signal(alice, trader_id)
    worker.claim()
    assert worker.admit(second, worker.plan(worker.brief(second)))["code"] == "exposure_limit"
    worker.record(plan["order_id"], status="cancelled", final=True)
    worker.admitted(project.signal(alice, trader_id))


def test_one_position_per_symbol(project: Project, alice: UUID) -> None:
    trader_id, worker = project.trader(alice), project.worker()
    project.limit(alice, one_position_per_symbol=True)
    project.open_position(worker, alice, trader_id)
    same = project.signal(alice, trader_id)
    other = project.signal(alice, trader_id, symbol="ETH/USDT")
    assert worker.claimed() == [other]
    assert _refused(project, same) == (
        "duplicate_position",
        "There is a position in BTC/USDT already, and the limits allow one per symbol.",
        "BTC/USDT",
        "1",
    )


@pytest.mark.parametrize(("balance", "outcome"), [("100.1", "admitted"), ("100.09999999", "refused")])
def test_play_money(project: Project, alice: UUID, balance: str, outcome: str) -> None:
    trader_id, worker = project.trader(alice), project.worker()
    project.owner.execute("update public.paper_balances set current_balance = %s::numeric", balance)
    signal_id = project.signal(alice, trader_id)
    worker.claim()
    assert worker.admit(signal_id, worker.plan(worker.brief(signal_id)))["outcome"] == outcome
    if outcome == "refused":
        assert _refused(project, signal_id) == (
            "insufficient_balance",
            "The entry may cost 100.1 USDT with its fee; the paper balance has 100.09999999 USDT free.",
            "100.1",
            "100.09999999",
        )


def test_a_limit_of_one_trader_leaves_others_alone(project: Project, alice: UUID) -> None:
    strict, free = project.trader(alice), project.trader(alice)
    worker = project.worker()
    project.limit(alice, strict, max_open_positions=1)
    project.open_position(worker, alice, free)
    first = project.signal(alice, strict)
    worker.admitted(first)
    second, third = project.signal(alice, strict), project.signal(alice, free)
    assert worker.claimed() == [third]
    assert _refused(project, second)[0] == "max_open_positions"


def test_positions_of_another_mode_do_not_count(project: Project, alice: UUID) -> None:
    worker = project.worker("paper", "testnet")
    project.limit(alice, max_open_positions=1)
    project.open_position(worker, alice, project.trader(alice))
    assert len(worker.claimed(project.signal(alice, project.trader(alice, "testnet")))) == 1


def test_ended_positions_do_not_count(project: Project, alice: UUID) -> None:
    trader_id, worker = project.trader(alice), project.worker()
    project.limit(alice, max_open_positions=1, max_total_exposure_usdt=100)
    failed = worker.admitted(project.signal(alice, trader_id))
    worker.record(failed["order_id"], status="expired")
    closed = project.open_position(worker, alice, trader_id)
    for status in ("closing", "closed"):
        project.owner.execute("update public.positions set status = %s where id = %s", status, closed["position_id"])
    worker.admitted(project.signal(alice, trader_id))


def test_a_code_outside_the_closed_list_is_refused_itself(project: Project, alice: UUID) -> None:
    worker = project.worker()
    signal_id = project.signal(alice, project.trader(alice))
    worker.claim()
    with pytest.raises(Exception, match="refusal_code"):
        _refuse(worker, signal_id, "bad_luck")
    assert _refuse(worker, signal_id, "spread_too_wide") == {"outcome": "refused"}
    assert _refuse(worker, signal_id, "spread_too_wide") == {"outcome": "taken"}
    assert _refused(project, signal_id) == ("spread_too_wide", "Too wide.", "3", "1")


def _refuse(worker: Worker, signal_id: UUID, code: str) -> Any:
    return worker.call(
        "refuse_signal",
        p_signal_id=signal_id,
        p_code=code,
        p_reason="Too wide.",
        p_rule_value="3",
        p_limit_value="1",
    )

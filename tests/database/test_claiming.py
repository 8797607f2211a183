"""Signals become ready, wake the workers, and are given in their order."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.database.project import Project


def _messages(project: Project) -> list[dict[str, Any]]:
    rows = project.owner.rows("select topic, event, private, payload from realtime.messages order by inserted_at, id")
    assert {row[:3] for row in rows} <= {("workers", "signals-ready", True)}
    return [row[3] for row in rows]


def test_a_signal_is_ready_when_it_says_enter_trade(project: Project, alice: UUID) -> None:
    trader_id = project.trader(alice)
    ready = project.signal(alice, trader_id)
    waiting = project.signal(alice, trader_id, decision="wait")
    watched = project.signal(alice, trader_id, status="monitoring")
    assert project.signal_row(ready)["ready_at"] is not None
    assert project.signal_row(waiting)["ready_at"] is None
    assert project.worker().claimed() == [ready]
    project.service().execute("update public.signals set decision = 'enter_trade' where id = %s", waiting)
    project.service().execute("update public.signals set status = 'ready' where id = %s", watched)
    assert project.signal_row(waiting)["ready_at"] is not None
    assert project.worker().claimed() == []  # the account is the first worker's
    assert [one["ids"] for one in _messages(project)] == [[str(ready)], [str(waiting)], [str(watched)]]


def test_a_producer_cannot_choose_when_a_signal_became_ready(project: Project, alice: UUID) -> None:
    signal_id = project.signal(alice, project.trader(alice), ready_at="2001-01-01", refusal_code="trading_paused")
    row = project.signal_row(signal_id)
    assert row["ready_at"] > "2001-01-02"
    assert row["refusal_code"] is None


@pytest.mark.parametrize("count", [1, 100, 250])
def test_a_statement_wakes_the_workers_once_with_at_most_a_hundred_ids(
    project: Project, alice: UUID, count: int
) -> None:
    trader_id = project.trader(alice)
    project.service().execute(
        "insert into public.signals (user_id, trader_id, symbol, decision)"
        " select %s, %s, 'BTC/USDT', 'enter_trade' from generate_series(1, %s)",
        alice,
        trader_id,
        count,
    )
    (message,) = _messages(project)
    assert (len(message["ids"]), message["more"]) == (min(count, 100), count > 100)
    oldest = project.owner.column("select id::text from public.signals order by ready_at, seq limit 100")
    assert message["ids"] == oldest


def test_a_signal_handed_to_another_user_finds_its_account(project: Project, alice: UUID, bob: UUID) -> None:
    signal_id = project.signal(alice, project.trader(alice))
    trader_id = project.trader(bob)
    project.service().execute(
        "update public.signals set user_id = %s, trader_id = %s where id = %s", bob, trader_id, signal_id
    )
    assert project.worker().claimed() == [signal_id]


def test_other_changes_of_a_signal_wake_nobody(project: Project, alice: UUID) -> None:
    signal_id = project.signal(alice, project.trader(alice))
    worker = project.worker()
    project.service().execute("update public.signals set reasoning = 'still good' where id = %s", signal_id)
    worker.admitted(signal_id)
    assert len(_messages(project)) == 1


@pytest.mark.parametrize(
    "broken",
    [
        "drop function realtime.send",
        "alter function realtime.send rename to sent",
        "alter schema realtime rename to elsewhere",
        "create or replace function realtime.send(payload jsonb, event text, topic text, private boolean default true)"
        " returns void language plpgsql as $$ begin raise exception 'no'; end $$",
    ],
    ids=["dropped", "renamed", "without Realtime", "raising"],
)
def test_an_insert_never_fails_for_a_message_that_cannot_be_sent(project: Project, alice: UUID, broken: str) -> None:
    trader_id = project.trader(alice)
    with psycopg.connect(project.server.superuser_dsn) as connection:
        warnings: list[str] = []
        connection.add_notice_handler(lambda notice: warnings.append(notice.message_primary or ""))
        connection.execute(broken.encode())
        connection.execute("set local role service_role")
        inserted = connection.execute(
            "insert into public.signals (user_id, trader_id, symbol, decision)"
            " values (%s, %s, 'BTC/USDT', 'enter_trade') returning status",
            (alice, trader_id),
        ).fetchall()
        connection.rollback()
    assert inserted == [("ready",)]
    assert warnings[0].startswith("ready signals were not announced")


def test_values_are_not_checked_when_a_signal_is_written(project: Project, alice: UUID) -> None:
    signal_id = project.signal(
        alice, project.trader(alice), symbol="???", side="sideways", price="NaN", order_type="any", stop_loss=-5
    )
    brief = project.worker().claim(signal_id)["signals"][0]
    assert (brief["symbol"], brief["side"], brief["price"], brief["stop_loss"]) == ("???", "sideways", "NaN", "-5")


def test_a_claim_gives_a_users_signals_in_their_order(project: Project, alice: UUID, bob: UUID) -> None:
    traders = {user_id: project.trader(user_id) for user_id in (alice, bob)}
    signals = [project.signal(user_id, traders[user_id]) for user_id in (alice, bob, alice, bob, bob)]
    worker = project.worker()
    assert worker.claimed() == signals
    assert worker.claimed(signals[4]) == [signals[1], signals[3], signals[4]]  # the whole line of its account


def test_a_long_line_keeps_no_other_waiting(project: Project, alice: UUID, bob: UUID) -> None:
    traders = {user_id: project.trader(user_id) for user_id in (alice, bob)}
    signals = [project.signal(user_id, traders[user_id]) for user_id in (alice, alice, alice, bob)]
    claim = project.worker().call("claim_signals", p_line=2)
    assert [UUID(brief["id"]) for brief in claim["signals"]] == [*signals[:2], signals[3]]
    assert claim["more"] is True


def test_a_good_signal_never_waits_behind_bad_ones(project: Project, alice: UUID) -> None:
    trader_id = project.trader(alice)
    for _ in range(130):
        project.signal(alice, trader_id, expires_at="2001-01-01")
    good = project.signal(alice, trader_id)
    assert project.worker().claimed() == [good]
    assert project.owner.value("select count(*) from public.signals where refusal_code = 'signal_expired'") == 130


def test_a_claim_is_bounded_and_says_that_there_is_more(project: Project, alice: UUID) -> None:
    trader_id = project.trader(alice)
    signals = [project.signal(alice, trader_id) for _ in range(3)]
    worker = project.worker()
    claim = worker.call("claim_signals", p_limit=2)
    assert ([UUID(brief["id"]) for brief in claim["signals"]], claim["more"]) == (signals[:2], True)
    assert worker.call("claim_signals", p_limit=3)["more"] is False


def test_a_brief_says_all_that_preparing_needs_with_money_as_text(project: Project, alice: UUID) -> None:
    trader_id = project.trader(alice, risk_config={"position_size": {"type": "fixed", "value": "25"}})
    project.limit(alice, max_stop_loss_percent="2.50")
    project.limit(alice, trader_id, max_open_positions=4)
    project.owner.execute(
        "insert into public.account_equity (user_id, mode, current) values (%s, 'paper', 9.10)", alice
    )
    project.owner.execute("update public.paper_balances set reserved = 0.5")
    signal_id = project.signal(alice, trader_id, price="64000.10", stop_loss="63000", confidence="0.75")
    brief = project.worker().claim()["signals"][0]
    assert brief["id"] == str(signal_id)
    assert (brief["user_id"], brief["trader_id"], brief["mode"]) == (str(alice), str(trader_id), "paper")
    assert (brief["price"], brief["stop_loss"], brief["take_profit"]) == ("64000.10", "63000", None)
    assert (brief["confidence"], brief["equity"]) == ("0.75", "9.10")
    assert brief["paper"] == {"current": "10000", "available": "9999.5"}
    assert brief["limits"]["account"]["max_stop_loss_percent"] == "2.50"
    assert brief["limits"]["trader"]["max_open_positions"] == "4"
    assert brief["risk_config"] == '{"position_size": {"type": "fixed", "value": "25"}}'


def test_a_trader_with_a_balance_of_its_own_is_told_that_one(project: Project, alice: UUID) -> None:
    trader_id = project.trader(alice)
    project.owner.execute(
        "insert into public.paper_balances (user_id, trader_id, current_balance) values (%s, %s, 70)", alice, trader_id
    )
    project.signal(alice, trader_id)
    assert project.worker().claim()["signals"][0]["paper"] == {"current": "70", "available": "70"}


def test_the_third_failed_try_refuses_a_signal(project: Project, alice: UUID) -> None:
    worker = project.worker()
    signal_id = project.signal(alice, project.trader(alice))
    worker.claim()
    answers = [worker.call("record_failed_try", p_signal_id=signal_id, p_detail="KeyError('x')") for _ in range(4)]
    assert answers == [
        {"tries": 1, "outcome": "ready"},
        {"tries": 2, "outcome": "ready"},
        {"tries": 3, "outcome": "refused"},
        {"tries": 0, "outcome": "taken"},
    ]
    row = project.signal_row(signal_id)
    assert (row["status"], row["refusal_code"]) == ("rejected", "internal_error")
    assert "KeyError" not in row["refusal_reason"]


def test_claims_use_their_indexes(project: Project, alice: UUID) -> None:
    trader_id = project.trader(alice)
    project.owner.execute(
        "insert into public.signals (user_id, trader_id, symbol, decision)"
        " select %s, %s, 'BTC/USDT', case when n %% 100 = 0 then 'enter_trade' else 'wait' end"
        " from generate_series(1, 5000) as n",
        alice,
        trader_id,
    )
    project.owner.execute("analyze public.signals")
    plan = "\n".join(
        project.owner.column(
            "explain select id from public.signals where status = 'ready' and decision = 'enter_trade'"
            " order by ready_at, seq limit 200"
        )
    )
    assert "signals_ready_idx" in plan

"""What screens show, each reader their own."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from tests.database.project import Project
from tests.database.trading import Worker


def _close(project: Project, worker: Worker, user_id: UUID, trader_id: UUID, pnl: str | None) -> None:
    plan = project.open_position(worker, user_id, trader_id)
    for status in ("closing", "closed"):
        project.owner.execute(
            "update public.positions set status = %s, realized_pnl = %s::numeric where id = %s",
            status,
            pnl,
            plan["position_id"],
        )


def test_performance_counts_what_was_closed(project: Project, alice: UUID, bob: UUID) -> None:
    worker = project.worker()
    trader_id, other = project.trader(alice), project.trader(bob)
    for pnl in ("10", "-4", "2", "0", None):
        _close(project, worker, alice, trader_id, pnl)
    project.open_position(worker, alice, trader_id)
    _close(project, worker, bob, other, "99")
    row = project.user(alice).rows("select to_jsonb(v) from public.trader_performance as v")
    assert [one[0] for one in row] == [
        {
            "trader_id": str(trader_id),
            "user_id": str(alice),
            "total_trades": 5,
            "winning_trades": 2,
            "losing_trades": 1,
            "win_rate_percent": Decimal("50.00"),
            "total_realized_pnl": 8,
            "avg_win": 6,
            "avg_loss": -4,
            "best_trade": 10,
            "worst_trade": -4,
            "total_exposure": 100,
        }
    ]


def test_performance_does_not_mix_play_money_with_money(project: Project, alice: UUID) -> None:
    worker = project.worker("paper", "testnet")
    trader_id = project.trader(alice)
    _close(project, worker, alice, trader_id, "1000")
    project.keys(alice, "testnet")
    project.owner.execute("update public.traders set mode = 'testnet'")
    _close(project, worker, alice, trader_id, "1")
    assert project.user(alice).value("select total_realized_pnl from public.trader_performance") == 1


def test_the_timeline_is_in_order_and_its_readers_own(project: Project, alice: UUID, bob: UUID) -> None:
    worker = project.worker()
    plan = worker.admitted(project.signal(alice, project.trader(alice)))
    worker.record(plan["order_id"], status="submitted")
    now = project.owner.value("select clock_timestamp()::text")
    worker.record(plan["order_id"], status="filled", fills=[worker.fill("1", "100", "1", at=now)])
    stages = project.user(alice).rows(
        "select signal_ready_at, woken_at, admitted_at, submitted_at, acknowledged_at, filled_at, opened_at"
        " from public.execution_timeline"
    )[0]
    assert list(stages) == sorted(stages)
    assert project.user(bob).rows("select * from public.execution_timeline") == []
    assert len(project.service().rows("select * from public.execution_timeline")) == 1

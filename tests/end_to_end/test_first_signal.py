"""A row becomes an open position."""

from __future__ import annotations

from tests.end_to_end.product import Project, Worker


def test_a_signal_becomes_an_open_position_untouched(project: Project, worker: Worker) -> None:
    user = project.sign_up({"position_size": {"type": "fixed", "value": "100"}, "stop_loss_percent": "2"})
    signal = project.signal(user, "ETH/USDT")
    project.wait_for([signal])
    [position] = project.rows("select * from positions where signal_id = %s", signal)
    [order] = project.rows("select * from orders where position_id = %s and purpose = 'entry'", position["id"])
    trades = project.rows("select * from trades where order_id = %s", order["id"])
    assert position["status"] in ("open", "monitoring")
    assert position["is_paper_trade"]
    assert position["entry_quantity"] == order["filled_quantity"] == sum(trade["quantity"] for trade in trades)
    assert position["entry_value"] == sum(trade["value"] for trade in trades)
    assert position["stop_loss_price"] < position["entry_price"]
    assert order["status"] == "filled"
    assert worker.stop() == 0

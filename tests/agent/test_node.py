"""What the node says first when there is much to say."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from sweepd.messages import Offer, Point, Renew, Reports, Welcome
from sweepd_agent.channel import Channel
from sweepd_agent.core.attempt import Patience
from sweepd_agent.core.slots import Slots
from sweepd_agent.gpus import Gpus
from sweepd_agent.metrics import Metrics
from sweepd_agent.node import Node
from sweepd_agent.spool import Spool

pytestmark = pytest.mark.anyio


class Flood:
    """An attempt whose job has always reported again."""

    token = "t"
    live = True
    ending_said = ending_due = False

    def next_message(self) -> Reports:
        return Reports("s", 0, 1, self.token, [Point(1, 1, {"loss": 1.0})])


@pytest.fixture
async def node(tmp_path: Path) -> Node:
    return Node(
        state=tmp_path,
        slots=Slots(2, [], cpus=2, memory_mib=1024),
        labels={},
        patience=Patience(stop_s=1, kill_s=1),
        spool=Spool(tmp_path / "spool"),
        gpus=Gpus({}, []),
        channel=Channel(tmp_path / "channel.sock"),
        metrics=Metrics(),
        start=cast(Any, None),
        tasks=cast(Any, None),
        wake=lambda: None,
    )


async def test_jobs_that_report_without_a_pause_do_not_hold_up_renewals_and_offers(node: Node) -> None:
    """There is always another report to send; a lease does not wait for the last of them."""
    runs = cast("dict[str, Any]", node._runs)  # pyright: ignore[reportPrivateUsage]
    runs["t"] = Flood()
    node.reported("t")
    assert isinstance(node.next_message(), Reports)
    node.received(Welcome(protocol=1, run=["t"], lease_ttl_s=10))
    assert node.next_message() == Renew(["t"])
    assert isinstance(node.next_message(), Offer)
    assert isinstance(node.next_message(), Reports)

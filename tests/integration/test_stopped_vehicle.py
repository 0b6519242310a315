# SPDX-License-Identifier: Apache-2.0
"""A vehicle's process is stopped for longer than DDS's own 20 s, and is heard when it goes on."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from flad_bringup.environment import child_environment
from flad_common.supervision import Supervisor
from flad_pipeline.group.link import LinkEvents
from flad_pipeline.group.packet import Kind, Packet
from flad_pipeline.ros.dds_transport import DdsLink

pytestmark = pytest.mark.timeout(240)
_DEADLINE_S = 60.0
_STOPPED_S = 26.0  # DDS forgets a participant after 20 s, unless our profile says otherwise

ECHO = """
import time
from dataclasses import replace
from flad_pipeline.group.link import LinkEvents
from flad_pipeline.ros.dds_transport import DdsLink

link = DdsLink("vehicle_1", ["vehicle_0"])


def answer(packet):
    link.send(replace(packet, source="vehicle_1", destination="vehicle_0"))


link.open(LinkEvents(on_packet=answer, on_lost=lambda peer, how: None))
while True:
    time.sleep(1.0)
"""


def test_a_vehicle_that_was_stopped_for_long_is_lost_at_once_and_never_unmatched(
    workspace, tmp_path
):
    answers: list[int] = []
    lost: list[str] = []
    link = DdsLink("vehicle_0", ["vehicle_1"])
    link.open(
        LinkEvents(
            on_packet=lambda packet: answers.append(packet.epoch),
            on_lost=lambda peer, how: lost.append(peer),
        )
    )
    try:
        with Supervisor(tmp_path) as supervisor:
            echo = supervisor.start(
                "vehicle_1",
                [sys.executable, "-c", ECHO],
                environment=child_environment(workspace, OMP_NUM_THREADS="1"),
            )
            link.wait_until_matched(_DEADLINE_S)
            _ask(link, 1, answers)

            os.kill(echo.process.pid, signal.SIGSTOP)
            end_s = time.monotonic() + _STOPPED_S
            while time.monotonic() < end_s:
                time.sleep(0.2)
                link.wait_until_matched(0.0)  # or TimeoutError: it was forgotten
            os.kill(echo.process.pid, signal.SIGCONT)

            assert lost == ["vehicle_1"], "its lease of 0.3 s said so"
            _ask(link, 2, answers)
    finally:
        link.close()


def _ask(link: DdsLink, epoch: int, answers: list[int]) -> None:
    """Ask until it answers: the first words may be lost while it is still discovered."""
    end_s = time.monotonic() + _DEADLINE_S
    while epoch not in answers:
        assert time.monotonic() < end_s, f"no answer to {epoch}; heard {sorted(set(answers))}"
        link.send(
            Packet(kind=Kind.HEARTBEAT, source="vehicle_0", destination="vehicle_1", epoch=epoch)
        )
        time.sleep(0.1)

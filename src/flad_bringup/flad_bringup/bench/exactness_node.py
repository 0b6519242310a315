# SPDX-License-Identifier: Apache-2.0
"""ROS side of a member of the exactness bench: a process of its own, reached over DDS.

``python -m flad_bringup.bench.exactness_node PLAN VEHICLE FOLDER``
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import rclpy
import torch

from flad_bringup.bench.exactness_case import read_plan
from flad_bringup.bench.exactness_member import Member, fed_file, result_file
from flad_pipeline.group.deadlines import TransportConfig
from flad_pipeline.group.transport import Transport
from flad_pipeline.ros.dds_transport import DdsLink, DdsLinkConfig

_MATCH_S = 300.0
_LEASE_S = 10.0
_WAIT_S = 900.0


def main() -> None:
    """Train, then leave what is held in the folder."""
    plan_file, vehicle, folder = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    torch.set_num_threads(1)
    plan = read_plan(plan_file)
    names = [span.vehicle for span in plan.phases[0].partition.stages]
    rclpy.init()
    # Numbers are compared here, not times: nobody is given up because the machine is busy.
    config = DdsLinkConfig(
        lease_s=_LEASE_S,
        transport=TransportConfig(timeout_s=_WAIT_S, silent_after_s=0.0),
    )
    link = DdsLink(vehicle, names, config)
    transport = Transport(link, config.transport)
    try:
        member = Member(plan, vehicle, transport, folder)
        link.wait_until_matched(_MATCH_S)
        member.run()
        end = plan.phases[-1].end_step
        for unit in member.store.held:
            data = member.store.state_of(unit, end).to_bytes()
            result_file(folder, unit).write_bytes(data)
        fed_file(folder, vehicle).write_text(json.dumps(member.fed), encoding="utf-8")
    finally:
        transport.close()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()

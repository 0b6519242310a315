# SPDX-License-Identifier: Apache-2.0
"""Driving for a long time with every sensor on: does memory grow, is a frame ever lost?

The expert drives from one random destination to the next, over real DDS and with LMDrive's rig.
Memory is the resident size of the world and of this process (client, bridge, expert); growth is
counted from the end of the first minute.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from flad_bringup.bench.rows import Row
from flad_carla.bridge import BridgeConfig
from flad_carla.cruise import Cruise
from flad_carla.evaluation.pilot_node import RosPilot
from flad_carla.evaluation.processes import start_planner, start_simulator
from flad_carla.evaluation.route_run import PLAN_PERIOD_S
from flad_carla.evaluation.world_view import WorldView
from flad_carla.rig import Rig, load_rig
from flad_carla.session import CarlaSession, Ego, SessionConfig
from flad_common.periods import is_due
from flad_common.ports import free_ports
from flad_common.supervision import Child, Supervisor

SUMMARY = "memory and lost frames over ten minutes of driving with LMDrive's sensors"
MINUTES = 12.0

_ROLE = "vehicle_0"
_WARM_S = 60.0
_PLAN_PERIOD_S = 0.1
_MIB = 2.0**20
_SAMPLE_EVERY_TICKS = 100
_GROWTH_BAR_MIB = 20.0  # allocator noise on a world of several hundred MiB


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    parser.add_argument("--town", default="Grid", help="town (default: %(default)s)")
    parser.add_argument(
        "--sim-minutes", type=float, default=10.0, help="simulated (default: %(default)s)"
    )
    parser.add_argument("--rig", default="lmdrive", help="of config/rigs (default: %(default)s)")


def measure(args: argparse.Namespace) -> list[Row]:
    """Drive and watch."""
    port = free_ports(2).start
    rig = load_rig(args.workspace.config / "rigs" / f"{args.rig}.yaml")
    with TemporaryDirectory() as folder, Supervisor(Path(folder)) as supervisor:
        server = start_simulator(
            supervisor,
            town=args.town,
            net=None,
            port=port,
            seed=args.seed,
            vehicles=30,
            walkers=20,
        )
        domain_id = 50 + os.getpid() % 50
        start_planner(
            supervisor,
            role=_ROLE,
            mode="lockstep",
            domain_id=domain_id,
            plan_period_s=PLAN_PERIOD_S,
        )
        with CarlaSession(SessionConfig(port=port)) as session:
            session.go_synchronous()
            pilot = RosPilot(session, BridgeConfig(mode="lockstep"), domain_id)
            try:
                return _drive(args, session, pilot, rig, server)
            finally:
                pilot.close()


def _drive(
    args: argparse.Namespace, session: CarlaSession, pilot: RosPilot, rig: Rig, server: Child
) -> list[Row]:
    ego = _spawn_somewhere(session, rig)
    session.tick()
    pilot.start(_ROLE)
    cruise = Cruise(session, ego, args.seed)
    view = WorldView(session.world, ego.actor)
    num_ticks = round(args.sim_minutes * 60.0 / session.config.fixed_delta_s)
    frames: Counter[str] = Counter()
    memory: list[tuple[float, float, float]] = []
    pids = (server.process.pid, os.getpid())
    first_frame = last_frame = 0
    moved_m = 0.0
    began = time.monotonic()
    for number in range(num_ticks):
        tick = session.tick()
        first_frame = first_frame or tick.frame
        last_frame = tick.frame
        frames.update(name for name, data in tick.data[_ROLE].items() if data.frame == tick.frame)
        decision = cruise.decide(tick) if is_due(tick.stamp_ns, _PLAN_PERIOD_S) else None
        body = view.read(tick.snapshot).ego
        answer = pilot.answer(tick, body, decision)
        session.apply_control(_ROLE, answer.control)
        moved_m += (body.velocity[0] ** 2 + body.velocity[1] ** 2) ** 0.5 * (
            session.config.fixed_delta_s
        )
        if number % _SAMPLE_EVERY_TICKS == 0:
            sizes = [_resident_mib(pid) for pid in pids]
            memory.append((number * session.config.fixed_delta_s, sizes[0], sizes[1]))
            if sys.stderr.isatty():
                print(f"\r{memory[-1][0]:5.0f} s  {sizes[0]:.0f} + {sizes[1]:.0f} MiB", end="")
    seconds = time.monotonic() - began
    periodic = [spec.id for spec in rig.sensors]
    lost = sum(max(0, last_frame - first_frame + 1 - frames[name]) for name in periodic)
    return [
        Row(name="soak_lost_frames", value=lost, unit="frames", bar=0.0, better="lower"),
        *_growth_rows(memory),
        Row(name="soak_driven_m", value=moved_m, unit="m"),
        Row(
            name="soak_realtime",
            value=num_ticks * session.config.fixed_delta_s / seconds,
            unit="s/s",
        ),
    ]


def _growth_rows(memory: list[tuple[float, float, float]]) -> list[Row]:
    """Growth from the end of the first minute to the largest size after it."""
    later = [sample for sample in memory if sample[0] >= _WARM_S] or memory[-1:]
    return [
        Row(
            name=f"soak_{name}_growth_mib",
            value=max(sample[column] for sample in later) - later[0][column],
            unit="MiB",
            bar=_GROWTH_BAR_MIB,
            better="lower",
        )
        for name, column in (("world", 1), ("client", 2))
    ]


def _resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / _MIB


def _spawn_somewhere(session: CarlaSession, rig: Rig) -> Ego:
    refused: Exception | None = None
    for place in session.map.get_spawn_points():
        try:
            return session.spawn_ego(_ROLE, place, rig)
        except Exception as error:  # any refusal means: try the next place
            refused = error
    raise RuntimeError(f"no spawn point of the town is free; the last refusal: {refused}")

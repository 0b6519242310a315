# SPDX-License-Identifier: Apache-2.0
"""The encoder on several computers of a vehicle against one of them: tokens, frames a second.

Each computer is a process with one thread; what crosses goes over DDS, as between the nodes
``encoder_on_stages`` and ``encoder_stage``. The computers are emulated (``flad_pipeline.testbed``):
the encoder ``small`` stands for ``paper``, every FLOP of it counts ``--work-scale`` times, and a
process sleeps until its device's time is over. The first computer runs the whole encoder alone
before. Plain processes without emulation are measured as well.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flad_bringup.bench.rows import Row
from flad_bringup.environment import child_environment
from flad_bringup.workspace import Workspace
from flad_carla.evaluation.domain import own_domain
from flad_common.error_codes import NODE_DIED, FladError
from flad_common.supervision import Supervisor

SUMMARY = "the encoder on several computers of a vehicle against one: tokens, frames a second"
MINUTES = 2.0

_DEADLINE_S = 600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    parser.add_argument("--model", default="small", help="encoder (default: %(default)s)")
    parser.add_argument(
        "--computers", type=int, nargs="+", default=[2, 3], help="how many (default: 2 3)"
    )
    parser.add_argument("--device", default="nano", help="of config/devices.yaml (%(default)s)")
    parser.add_argument("--frames", type=int, default=24, help="of each run (default: %(default)s)")
    parser.add_argument(
        "--work-scale", type=float, default=264.0, help="FLOPs of paper by those of small"
    )
    parser.add_argument("--dilation", type=float, default=1.0, help="seconds here for one there")


def measure(args: argparse.Namespace) -> list[Row]:
    """Emulated computers, then plain processes."""
    rows, errors, overruns = [], [], []
    for count in args.computers:
        found = _run(args, count, device=args.device)
        rows += _rows(f"stages_{count}", found, args.dilation)
        errors.append(found["tokens_error"])
        overruns.append(found["worst_overrun"])
    plain = _run(args, 2, device="")
    return [
        Row(
            name="stages_tokens_error",
            value=max(*errors, plain["tokens_error"]),
            unit="largest difference to one computer",
            bar=1e-5,
            better="lower",
        ),
        *rows,
        *_rows("stages_plain_2", plain, 1.0),
        Row(
            name="stages_worst_overrun",
            value=max(overruns),
            unit="of a pass's time",
            bar=1.0,
            better="lower",
        ),
        Row(name="stages_work_scale", value=args.work_scale, unit="1"),
    ]


def _rows(name: str, found: dict[str, Any], dilation: float) -> list[Row]:
    """Of one run, in emulated time."""
    frames_per_s = dilation * found["frames_per_s"]
    alone_per_s = dilation * found["alone_frames_per_s"]
    return [
        Row(
            name=f"{name}_frames_per_s",
            value=frames_per_s,
            unit="frames/s",
            baseline="one computer",
            baseline_value=alone_per_s,
        ),
        Row(
            name=f"{name}_of_cuts",
            value=frames_per_s * found["slowest_share"] / alone_per_s,
            unit="of what the slowest stage allows",
        ),
        Row(
            name=f"{name}_latency_ms",
            value=1e3 * found["latency_s"] / dilation,
            unit="ms a frame, one at a time",
            baseline="one computer",
            baseline_value=1e3 / alone_per_s,
            better="lower",
        ),
    ]


def _run(args: argparse.Namespace, count: int, *, device: str) -> dict[str, Any]:
    return run_stages(
        args.workspace,
        model=args.model,
        num_computers=count,
        num_frames=args.frames,
        device=device,
        work_scale=args.work_scale,
        dilation=args.dilation,
    )


def run_stages(
    workspace: Workspace,
    *,
    model: str,
    num_computers: int,
    num_frames: int,
    device: str,
    work_scale: float,
    dilation: float,
) -> dict[str, Any]:
    """Figures of all computers; without a device they are not emulated.

    Raises:
        FladError: if a process died.
        TimeoutError: if one did not end; either says its last lines.
    """
    names = [f"computer_{i}" for i in range(num_computers)]
    with (
        TemporaryDirectory() as scratch,
        own_domain() as domain_id,
        Supervisor(Path(scratch) / "logs") as supervisor,
    ):
        environment = child_environment(
            workspace, None, OMP_NUM_THREADS="1", ROS_DOMAIN_ID=str(domain_id)
        )
        children = [
            supervisor.start(
                name,
                [
                    *(sys.executable, "-m", "flad_bringup.bench.stages_member"),
                    *("--name", name, "--computers", *names, "--model", model),
                    *("--frames", str(num_frames), "--device", device),
                    *("--work-scale", str(work_scale), "--dilation", str(dilation)),
                    *("--folder", scratch),
                ],
                environment=environment,
            )
            for name in names
        ]
        for child in children:
            if status := supervisor.wait(child, deadline_s=_DEADLINE_S):
                raise FladError(NODE_DIED, f"{child.name} ended with {status}\n{child.tail()}")
        said = [
            json.loads((Path(scratch) / f"{name}.json").read_text(encoding="utf-8"))
            for name in names
        ]
    return {**said[0], "worst_overrun": max(one["worst_overrun"] for one in said)}

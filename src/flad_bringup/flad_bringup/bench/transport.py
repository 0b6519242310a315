# SPDX-License-Identifier: Apache-2.0
"""The group over DDS against gloo: single tensors, and steps of a pipeline on open and slow links.

Two processes with one thread each train the encoder ``small`` through two stages (u-shaped: the
first has the heads and the loss as well), 8 micro-batches a step. On the slow link both groups run
between two network namespaces (needs root; left out without). Groups take turns, so that what else
the machine does meets them alike.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flad_bringup.bench.rows import Row
from flad_bringup.bench.slow_link import INTERFACE, LinkProfile, SlowLink
from flad_bringup.environment import child_environment
from flad_bringup.workspace import Workspace
from flad_common.error_codes import NODE_DIED, FladError
from flad_common.fast_dds import PROFILE_VARIABLE, UDP_ONLY
from flad_common.ports import free_ports
from flad_common.supervision import Supervisor

SUMMARY = "the group over DDS against gloo and TCP: tensors, pipeline steps, a slow link"
MINUTES = 8.0

_SIZES_MB = (0.1, 1.0, 4.0, 16.0)
_MEMBER_S = 600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's arguments."""
    parser.add_argument("--repeats", type=int, default=5, help="steps a run (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=2, help="of each group (default: %(default)s)")
    parser.add_argument(
        "--micro-batch", type=int, default=2, help="samples of each (default: %(default)s)"
    )
    parser.add_argument(
        "--rate-mbps", type=float, default=50.0, help="of the slow link (default: %(default)s)"
    )
    parser.add_argument(
        "--delay-ms", type=float, default=20.0, help="of the slow link (default: %(default)s)"
    )
    parser.add_argument(
        "--only", choices=["p2p", "open", "slow", "form"], nargs="+", help="these parts"
    )


def measure(args: argparse.Namespace) -> list[Row]:
    """Run both groups on both links."""
    parts = args.only or ["p2p", "open", "slow", "form"]
    rows: list[Row] = []
    with TemporaryDirectory() as scratch:
        here = _Pair(args.workspace, Path(scratch), args, None)
        if "p2p" in parts:
            rows += _tensor_rows(here)
        if "form" in parts:
            form_s = here.run("dds", ["form"])["form"]["form_s"]
            rows.append(
                Row(
                    name="transport_form_ms",
                    value=1e3 * form_s,
                    unit="ms",
                    bar=10.0,
                    better="lower",
                )
            )
        if "open" in parts:
            rows += _open_rows(here, args)
        if "slow" in parts:
            rows += _slow_rows(args, Path(scratch))
    return rows


def _tensor_rows(pair: _Pair) -> list[Row]:
    times = {backend: pair.run(backend, ["p2p"])["p2p"] for backend in ("dds", "gloo", "tcp")}
    return [
        Row(
            name=f"transport_{mb:g}mb_ms" + ("" if backend == "dds" else "_over_tcp"),
            value=1e3 * times["dds"][f"{mb:g}"],
            unit="ms",
            baseline="gloo" if backend == "dds" else "a TCP socket",
            baseline_value=1e3 * times["gloo" if backend == "dds" else "tcp"][f"{mb:g}"],
        )
        for mb in _SIZES_MB
        for backend in ("dds", "tcp")
    ]


def _open_rows(pair: _Pair, args: argparse.Namespace) -> list[Row]:
    steps = _in_turns(pair, args, ["1f1b"])
    ours, theirs = steps[("dds", "1f1b")], steps[("gloo", "1f1b")]
    return [
        _step_row("transport_open_1f1b_s", ours.time_s, theirs.time_s),
        Row(
            name="transport_open_ratio",
            value=ours.time_s / theirs.time_s,
            unit="of gloo's step",
            bar=1.1,
            better="lower",
        ),
        Row(name="transport_cut_mb", value=ours.cut_bytes / 1e6, unit="MB/step", bar=1.0),
        Row(
            name="transport_norms_equal",
            value=float(ours.norms == theirs.norms),
            unit="yes or no",
            bar=1.0,
        ),
    ]


def _slow_rows(args: argparse.Namespace, scratch: Path) -> list[Row]:
    if os.geteuid() != 0:
        print("the slow link needs root; its rows are left out", flush=True)
        return []
    profile = LinkProfile(rate_bps=1e6 * args.rate_mbps, delay_s=1e-3 * args.delay_ms)
    with SlowLink(f"flad_{os.getpid()}_", profile, args.seed) as link:
        pair = _Pair(args.workspace, scratch, args, link)
        steps = _in_turns(pair, args, ["1f1b", "gpipe"])
    ours, theirs = steps[("dds", "1f1b")], steps[("gloo", "1f1b")]
    return [
        _step_row("transport_slow_1f1b_s", ours.time_s, theirs.time_s),
        _step_row(
            "transport_slow_gpipe_s",
            steps[("dds", "gpipe")].time_s,
            steps[("gloo", "gpipe")].time_s,
        ),
        Row(
            name="transport_slow_ratio",
            value=ours.time_s / theirs.time_s,
            unit="of gloo's step",
            bar=0.8,
            better="lower",
        ),
        Row(
            name="transport_slow_1f1b_over_gpipe",
            value=ours.time_s / steps[("dds", "gpipe")].time_s,
            unit="of our GPipe",
            baseline="gloo's",
            baseline_value=theirs.time_s / steps[("gloo", "gpipe")].time_s,
            bar=1.0,
            better="lower",
        ),
        Row(
            name="transport_slow_link_mb",
            value=ours.link_bytes / 1e6,
            unit="MB on the link, a run of both schedules",
            baseline="gloo",
            baseline_value=theirs.link_bytes / 1e6,
        ),
        Row(
            name="transport_slow_counted",
            value=ours.sent_bytes / ours.link_bytes,
            unit="bytes of tensors by bytes of the interfaces",
        ),
    ]


def _step_row(name: str, ours_s: float, theirs_s: float) -> Row:
    return Row(name=name, value=ours_s, unit="s", baseline="gloo", baseline_value=theirs_s)


@dataclass(frozen=True, kw_only=True)
class _Steps:
    time_s: float
    cut_bytes: float
    norms: list[float]
    link_bytes: float
    sent_bytes: float


def _in_turns(
    pair: _Pair, args: argparse.Namespace, schedules: list[str]
) -> dict[tuple[str, str], _Steps]:
    """Median step of both groups under every schedule over all runs."""
    found: dict[str, list[dict[str, Any]]] = {"dds": [], "gloo": []}
    for turn in range(args.runs):
        for backend in found if turn % 2 == 0 else reversed(found):
            figures = pair.run(backend, schedules)
            found[backend].append(figures)
            for schedule in schedules:
                step_s = statistics.median(figures[schedule]["steps_s"])
                print(f"{backend:5} {schedule:6} {step_s:.3f} s a step", flush=True)
    return {
        (backend, schedule): _Steps(
            time_s=statistics.median(s for run in runs for s in run[schedule]["steps_s"]),
            cut_bytes=runs[0][schedule]["forward_bytes"],
            norms=runs[0][schedule]["norms"],
            link_bytes=statistics.median(run["link_bytes"] for run in runs),
            sent_bytes=statistics.median(_sent_bytes(run) for run in runs),
        )
        for backend, runs in found.items()
        for schedule in schedules
    }


def _sent_bytes(figures: dict[str, Any]) -> float:
    """Of tensors, by our own count, both ways; 0 for gloo, which does not count."""
    counts = figures.get("counts", {})
    return float(counts.get("bytes_sent", 0) + counts.get("bytes_received", 0))


class _Pair:
    """Two members at a time, here or at the ends of a link."""

    def __init__(
        self, workspace: Workspace, scratch: Path, args: argparse.Namespace, link: SlowLink | None
    ) -> None:
        self._workspace, self._scratch, self._args, self._link = workspace, scratch, args, link
        self._number = 0

    def run(self, backend: str, work: list[str]) -> dict[str, Any]:
        """The first member's figures, by work.

        Raises:
            FladError: if a member died or did not end.
        """
        self._number += 1
        folder = self._scratch / f"{'slow' if self._link else 'open'}_{self._number}"
        out = folder / "figures.json"
        folder.mkdir()
        port = free_ports(1).start
        before = sum(self._link.num_bytes) if self._link else 0
        with Supervisor(folder) as supervisor:
            children = [
                supervisor.start(
                    f"member_{rank}",
                    self._command(rank, backend, work, port, out),
                    environment=self._environment(),
                )
                for rank in (0, 1)
            ]
            for child in children:
                if status := supervisor.wait(child, deadline_s=_MEMBER_S):
                    what = f"{child.name} of {backend} {work} ended with {status}"
                    raise FladError(NODE_DIED, f"{what}; it said last\n{child.tail()}")
        figures: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        figures["link_bytes"] = (sum(self._link.num_bytes) if self._link else 0) - before
        return figures

    def _command(self, rank: int, backend: str, work: list[str], port: int, out: Path) -> list[str]:
        command = [
            *(sys.executable, "-m", "flad_bringup.bench.transport_member"),
            *("--rank", str(rank), "--backend", backend, "--work", *work, "--port", str(port)),
            *("--host", self._link.hosts[0] if self._link else "127.0.0.1"),
            *("--repeats", str(self._args.repeats), "--out", str(out)),
            *("--micro-batch", str(self._args.micro_batch)),
            *("--mb", *(str(mb) for mb in _SIZES_MB)),
        ]
        return self._link.inside(rank, command) if self._link else command

    def _environment(self) -> dict[str, str]:
        extra = {"OMP_NUM_THREADS": "1"}
        if self._link:
            extra |= {
                PROFILE_VARIABLE: str(self._workspace.config / UDP_ONLY),
                "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET",
                "GLOO_SOCKET_IFNAME": INTERFACE,
            }
        return child_environment(self._workspace, None, **extra)

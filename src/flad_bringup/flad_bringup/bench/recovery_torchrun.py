# SPDX-License-Identifier: Apache-2.0
"""The same pipeline under torchrun's elastic agent, over gloo: what a killed worker costs there.

Run by torchrun as a script it is a worker; imported it measures. Checkpoints are files, every
``cut_every`` steps, as ours; the agent starts all workers anew when one dies.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from flad_bringup.bench.exactness_case import (
    Phase,
    Plan,
    case_graph,
    case_loss,
    make_optimizer,
    micro_batches,
    read_plan,
)
from flad_pipeline.partition import Partition
from flad_pipeline.stages.pipeline import PipelineTrainer
from flad_pipeline.stages.unit_state import unit_state_from_bytes
from flad_pipeline.stages.unit_store import UnitStore

_SIZE = 3
_STEPS = 1_000_000
_START_S = 900.0
_STEPS_BEFORE = 6


def torchrun_losses(
    folder: Path, plan: Plan, count: int, numbers: random.Random, cut_every: int
) -> list[float]:
    """Seconds from the death of a worker to the end of everybody's next step."""
    if not count:
        return []
    folder = folder / "torchrun"
    folder.mkdir()
    graph = case_graph(plan)
    names = [f"rank_{i}" for i in range(_SIZE)]
    partition = Partition.even(graph, names, heads_from=graph.first_head)
    phase = Phase(first_step=0, end_step=_STEPS, partition=partition)
    dataclasses.replace(plan, phases=(phase,), backup_every=cut_every).write(folder / "plan.json")
    command = [
        *(sys.executable, "-m", "torch.distributed.run"),
        *("--nnodes", "1", "--nproc-per-node", str(_SIZE), "--max-restarts", str(count + 1)),
        *("--monitor-interval", "0.1", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"),
        *("-m", "flad_bringup.bench.recovery_torchrun", str(folder)),
    ]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }
    with (folder / "log").open("wb") as log:
        agent = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    try:
        return [_kill_one(folder, agent, numbers) for _ in range(count)]
    finally:
        os.killpg(agent.pid, signal.SIGKILL)
        agent.wait()
        for pid in {line["pid"] for rank in range(_SIZE) for line in _log(folder, rank)}:
            _end(pid, folder)


def _kill_one(folder: Path, agent: subprocess.Popen[bytes], numbers: random.Random) -> float:
    _until(folder, agent, lambda: all(_fresh(folder, r) >= _STEPS_BEFORE for r in range(_SIZE)))
    time.sleep(numbers.uniform(0.0, 1.0))
    pids = {rank: _log(folder, rank)[-1]["pid"] for rank in range(_SIZE)}
    began_s = time.monotonic()
    os.kill(pids[numbers.randrange(_SIZE)], signal.SIGKILL)

    def later(rank: int) -> list[dict[str, Any]]:
        return [
            line
            for line in _log(folder, rank)
            if line["pid"] not in pids.values() and line["ended_s"] > began_s
        ]

    _until(folder, agent, lambda: all(later(rank) for rank in range(_SIZE)))
    seconds = max(float(later(rank)[0]["ended_s"]) for rank in range(_SIZE)) - began_s
    print(f"  torchrun elastic: {seconds:.2f} s")
    return seconds


def _fresh(folder: Path, rank: int) -> int:
    """Steps of the rank's newest process."""
    lines = _log(folder, rank)
    return sum(line["pid"] == lines[-1]["pid"] for line in lines)


def _until(folder: Path, agent: subprocess.Popen[bytes], done: Any) -> None:
    end_s = time.monotonic() + _START_S
    while not done():
        if agent.poll() is not None or time.monotonic() > end_s:
            raise RuntimeError(f"torchrun ended or hangs:\n{(folder / 'log').read_text()[-3000:]}")
        time.sleep(0.02)


def _log(folder: Path, rank: int) -> list[dict[str, Any]]:
    path = folder / f"rank_{rank}.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def _end(pid: int, folder: Path) -> None:
    """A worker that outlived its agent; the folder in its command line says that it is ours."""
    try:
        if str(folder) in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGKILL)
    except OSError:
        return


def worker(folder: Path) -> None:
    """One rank, from the newest checkpoint that all of them have."""
    torch.set_num_threads(1)
    plan = read_plan(folder / "plan.json")
    partition = plan.phases[0].partition
    dist.init_process_group("gloo")
    rank, group = dist.get_rank(), dist.group.WORLD
    assert group is not None
    name = partition.stages[rank].vehicle
    store = UnitStore(case_graph(plan), make_optimizer, partition.units_of(name))
    step = _common_step(folder, partition.num_units)
    for unit in store.held if step else ():
        data = _checkpoint(folder, step, unit).read_bytes()
        store.give_unit(unit_state_from_bytes(data))
    trainer = PipelineTrainer(store, partition, name, group, case_loss, plan.step_config)
    batches = [micro_batches(plan, name, i) for i in range(4)] if rank == 0 else []
    while step < _STEPS:
        if step % plan.backup_every == 0:
            for unit in store.held:
                path = _checkpoint(folder, step, unit)
                path.parent.mkdir(exist_ok=True)
                path.with_suffix(".new").write_bytes(store.state_of(unit, step).to_bytes())
                path.with_suffix(".new").replace(path)
        trainer.step(step, batches[step % 4] if rank == 0 else ())
        step += 1
        line = {"step": step, "ended_s": time.monotonic(), "pid": os.getpid()}
        with (folder / f"rank_{rank}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _checkpoint(folder: Path, step: int, unit: int) -> Path:
    return folder / f"step_{step}" / f"{unit}.safetensors"


def _common_step(folder: Path, num_units: int) -> int:
    whole: Sequence[int] = [
        int(path.name.removeprefix("step_"))
        for path in folder.glob("step_*")
        if len(list(path.glob("*.safetensors"))) == num_units
    ]
    return max(whole, default=0)


if __name__ == "__main__":
    worker(Path(sys.argv[1]))

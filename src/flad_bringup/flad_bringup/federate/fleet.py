# SPDX-License-Identifier: Apache-2.0
"""Processes of a federation on this machine: one a vehicle, one the edge; keys and files they need.

They talk over ROS 2 in a domain of their own; nothing but signals connects them with this process.
"""

from __future__ import annotations

import datetime
import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flad_bringup import topology
from flad_bringup.workspace import find_workspace
from flad_common.fast_dds import PROFILE_VARIABLE, SHIPPED, without_shared_memory
from flad_common.supervision import Child, Supervisor
from flad_pipeline.aggregation.keys import KeyRing, VehicleKey
from flad_pipeline.testbed.testbed import Testbed

TASK = "flad_edge.federate.encoder_task:encoder_task"
COSTS = "flad_edge.federate.encoder_task:edge_costs"


@dataclass(frozen=True, kw_only=True)
class VehicleSpec:
    """A vehicle's process."""

    name: str
    device: str
    available_bytes: int


@dataclass(frozen=True, kw_only=True)
class FleetFiles:
    """The folder of a federation."""

    folder: Path

    @property
    def task(self) -> Path:
        """What is trained: the ``task_file`` of every process."""
        return self.folder / "task.yaml"

    @property
    def testbed(self) -> Path:
        """Speeds and links, where they are emulated."""
        return self.folder / "testbed.json"

    @property
    def air(self) -> Path:
        """The channel that emulated vehicles share."""
        return self.folder / "air"

    @property
    def ring(self) -> Path:
        """Public keys."""
        return self.folder / "vehicle_keys.yaml"

    @property
    def edge(self) -> Path:
        """The edge's journal, models, copies and updates."""
        return self.folder / "edge"

    def of(self, vehicle: str) -> Path:
        """What stays on a vehicle: its key, its steps and losses."""
        return self.folder / vehicle


def emulated_planning(testbed: Testbed, *, work_scale: float) -> dict[str, str]:
    """Parameters with which the edge plans in seconds of this computer, as its vehicles take them.

    Args:
        testbed: speeds, link and dilation that the vehicles' processes emulate.
        work_scale: as in :class:`flad_pipeline.testbed.pace.Pace`.
    """
    values = {
        "work_scale": work_scale * testbed.dilation,
        "radio.shared": testbed.shared_channel,
        "radio.bits_per_s": testbed.link.bits_per_s / testbed.dilation,
        "radio.delay_s": testbed.link.delay_s * testbed.dilation,
        "radio.overhead": 1.0,  # the emulated rate is one of payload
    }
    return {f"planning.{name}": str(value).lower() for name, value in values.items()}


class Fleet:
    """Starts, stops and disturbs. Single-threaded.

    Args:
        files: where everything lies.
        vehicles: who there is; each has its own process.
        supervisor: of all processes.
        domain_id: of ROS.
        edge_parameters: of the conductor, beside what every federation needs.
        worker_parameters: of every worker, likewise.
        task: ``package.module:function`` of the TrainingTask.
        costs: likewise, of its units' costs.
        placed: a process's command as it is run, by the process's name: on a host of its own.
        environment: of every process, beside this one's.
    """

    def __init__(
        self,
        files: FleetFiles,
        vehicles: Sequence[VehicleSpec],
        supervisor: Supervisor,
        domain_id: int,
        *,
        edge_parameters: Mapping[str, str] | None = None,
        worker_parameters: Mapping[str, str] | None = None,
        task: str = TASK,
        costs: str = COSTS,
        placed: Callable[[str, list[str]], list[str]] = lambda _, command: command,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.files, self.vehicles = files, {v.name: v for v in vehicles}
        self._supervisor = supervisor
        shipped = find_workspace().config / SHIPPED
        self._environment = {
            **os.environ,
            "ROS_DOMAIN_ID": str(domain_id),
            "OMP_NUM_THREADS": "1",
            **without_shared_memory({PROFILE_VARIABLE: str(shipped)} | os.environ),
            **(environment or {}),
        }
        self._placed = placed
        self._edge_parameters = dict(edge_parameters or {})
        self._worker_parameters = dict(worker_parameters or {})
        self._task, self._costs = task, costs
        self._children: dict[str, Child] = {}
        self._enrol()

    def start_edge(self) -> None:
        """Start the edge; after a crash it reads its journal."""
        parameters = {
            "task": self._task,
            "task_file": str(self.files.task),
            "costs": self._costs,
            "folder": str(self.files.edge),
            "ring": str(self.files.ring),
            **self._edge_parameters,
        }
        self._start("edge", topology.node_command(topology.CONDUCTOR, parameters=parameters))

    def start(self, name: str) -> None:
        """Start a vehicle that is not there."""
        vehicle = self.vehicles[name]
        parameters = {
            "peers": str(list(self.vehicles)),
            "task": self._task,
            "task_file": str(self.files.task),
            "costs": self._costs,
            "key_file": str(self.files.of(name) / "key.pem"),
            "step_log": str(self.files.of(name) / "steps.jsonl"),
            "device": vehicle.device,
            "available_bytes": str(vehicle.available_bytes),
            **self._worker_parameters,
        }
        command = topology.node_command(topology.WORKER, vehicle=name, parameters=parameters)
        self._start(name, command)

    def kill(self, name: str) -> None:
        """SIGKILL."""
        self._supervisor.kill_child(self._children.pop(name))

    def freeze(self, name: str) -> None:
        """SIGSTOP."""
        os.killpg(self._children[name].process.pid, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """SIGCONT."""
        os.killpg(self._children[name].process.pid, signal.SIGCONT)

    def is_running(self, name: str) -> bool:
        """Whether it was started and has not been killed."""
        return name in self._children

    def resident_bytes(self, name: str) -> float:
        """Of a process that runs."""
        statm = Path(f"/proc/{self._children[name].process.pid}/statm")
        return float(statm.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def check(self) -> None:
        """Raise if a process has ended by itself.

        Raises:
            FladError: (NODE_DIED) with its last words.
        """
        self._supervisor.check()

    def _start(self, name: str, command: list[str]) -> None:
        self._children[name] = self._supervisor.start(
            name, self._placed(name, command), environment=self._environment
        )

    def _enrol(self) -> None:
        """Keys for vehicles that have none; on real vehicles ``./flad keys`` does it."""
        ring = KeyRing.load(self.files.ring)
        today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
        for name in self.vehicles:
            path = self.files.of(name) / "key.pem"
            if not path.is_file():
                key = VehicleKey.generate()
                key.save(path)
                ring = ring.enrol(name, key.public, today=today)
        ring.save(self.files.ring)


def is_ours(folder: Path) -> bool:
    """Whether a folder may be emptied: it has nothing, or an earlier federation."""
    files = FleetFiles(folder=folder)
    return not folder.exists() or files.task.is_file() or not any(folder.iterdir())


def empty(folder: Path) -> None:
    """Begin anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)

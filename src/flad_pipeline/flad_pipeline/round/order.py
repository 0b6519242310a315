# SPDX-License-Identifier: Apache-2.0
"""What the edge asks of vehicles, and what they say of themselves: values, as they go over ROS.

Fields are those of ``flad_msgs/TrainOrder`` and ``TrainStatus``, which say what each means.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from flad_pipeline.partition import Partition, partition_from_json


class OrderKind(IntEnum):
    """What is asked for."""

    TRAIN = 1
    PAUSE = 2
    STOP = 3


class Stand(IntEnum):
    """Where a vehicle stands."""

    IDLE = 0
    LOADING = 1
    TRAINING = 2
    PAUSED = 3
    BROKEN = 4
    DONE = 5
    FAILED = 6


@dataclass(frozen=True, kw_only=True)
class Order:
    """To the vehicles of one client.

    Raises:
        ValueError: if its numbers do not fit each other; the message says which.
    """

    kind: OrderKind
    order: int
    vehicles: tuple[str, ...]
    """By rank."""
    epoch: int = 0
    client: str = ""
    round: int = 0
    round_id: str = ""
    start_hash: str = ""
    pipelines: tuple[Partition, ...] = ()
    rotation_period: int = 1
    from_step: int = 0
    end_step: int = 0
    cut_every: int = 1

    def __post_init__(self) -> None:
        if self.kind is not OrderKind.TRAIN:
            return
        if not self.pipelines:
            raise ValueError(f"order {self.order} has no pipeline")
        for partition in self.pipelines:
            names = sorted(span.vehicle for span in partition.stages)
            if names != sorted(self.vehicles):
                raise ValueError(
                    f"order {self.order} is for {sorted(self.vehicles)}, a pipeline is of {names}"
                )
        if self.cut_every < 1 or self.rotation_period < 1 or self.rotation_period % self.cut_every:
            raise ValueError(
                f"rotation_period ({self.rotation_period}) must be a multiple of cut_every "
                f"({self.cut_every}): pipelines change at a common cut"
            )
        if not 0 <= self.from_step <= self.end_step:
            raise ValueError(f"steps {self.from_step} to {self.end_step} do not follow each other")

    def pipeline(self, step: int) -> Partition:
        """Who trains ``step``; the last pipeline stays for what comes after the last step."""
        turn = min(step, max(0, self.end_step - 1)) // self.rotation_period
        return self.pipelines[turn % len(self.pipelines)]

    def turns_at(self, step: int) -> bool:
        """Whether another pipeline's turn begins with ``step``."""
        return 0 < step < self.end_step and step % self.rotation_period == 0

    def cuts_at(self, step: int) -> bool:
        """Whether all make a common cut before ``step``."""
        return step % self.cut_every == 0 or step == self.end_step


@dataclass(frozen=True, kw_only=True)
class VehicleFacts:
    """What a vehicle brings to a round."""

    device: str
    available_bytes: int
    dwell_s: float
    num_samples: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class Status:
    """What a vehicle says of itself."""

    vehicle: str
    session: str
    state: Stand
    order: int = 0
    epoch: int = 0
    client: str = ""
    round: int = 0
    step: int = 0
    progress: int = 0
    cuts: tuple[int, ...] = ()
    lost: str = ""
    text: str = ""
    samples_per_s: float = 0.0
    resident_bytes: int = 0
    facts: VehicleFacts


def partitions_from_json(texts: list[str]) -> tuple[Partition, ...]:
    """The pipelines of an order.

    Raises:
        ValueError: if one is no partition.
    """
    return tuple(partition_from_json(text) for text in texts)

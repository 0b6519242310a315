# SPDX-License-Identifier: Apache-2.0
"""Plays a recorded bag's sensors to an encoder, and compares its tokens with the recorded ones.

``python -m flad_carla.bag.replay_node BAG --encoder small``. The bag needs raw pictures
(``./flad evaluate --encoder small --bag DIR --bag-raw``). Same model, same sensors, same number of
threads: the same tokens, bit for bit.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from flad_msgs.msg import SceneTokens
from geometry_msgs.msg import PointStamped
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from rosbags.rosbag2 import Reader, ReaderError
from sensor_msgs.msg import Image, PointCloud2
from tf2_msgs.msg import TFMessage

from flad_carla.bag.types import MessageTypes
from flad_carla.evaluation.domain import own_domain
from flad_carla.evaluation.processes import EncoderOption, EncoderSensors, start_encoder
from flad_common.error_codes import FladError
from flad_common.ros.qos import LOCKSTEP, SENSOR_OUT, STATE, TF_STATIC
from flad_common.supervision import Supervisor
from flad_perception.ros.messages import tokens_from_msg
from flad_perception.wire import WireDtype, decode_tokens

_MOUNTS = "/tf_static"
_START_S = 180.0
_TICK_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Replayed against recorded tokens."""

    num_ticks: int
    num_identical: int
    """Whose bytes, scales and valid views are all the same."""
    max_difference: float
    """Largest absolute difference of two numbers."""
    same_model: bool

    @property
    def text(self) -> str:
        """One sentence."""
        model = "" if self.same_model else " (another model than the recorded one)"
        return (
            f"{self.num_identical} of {self.num_ticks} ticks identical to the bit, "
            f"largest difference {self.max_difference:g}{model}"
        )


@dataclass(frozen=True, slots=True)
class _Recorded:
    topic: str
    stamp_ns: int
    raw: bytes


class RecordedDrive:
    """What a bag holds of one vehicle.

    Raises:
        ValueError: if it lacks what a replay needs.
    """

    def __init__(self, bag: Path, role: str) -> None:
        self._bag = bag
        self._role = role
        prefix = f"/carla/{role}/"
        with Reader(bag) as reader:
            topics = set(reader.topics)
        self.cameras = tuple(
            sorted(
                t.removeprefix(prefix).removesuffix("/image")
                for t in topics
                if t.startswith(prefix) and t.endswith("/image")
            )
        )
        self.kinds: dict[str, tuple[Any, Any]] = {
            _MOUNTS: (TFMessage, TF_STATIC),
            **{f"{prefix}{camera}/image": (Image, SENSOR_OUT) for camera in self.cameras},
            f"{prefix}lidar": (PointCloud2, SENSOR_OUT),
            f"{prefix}odometry": (Odometry, STATE),
            f"/{role}/target_point": (PointStamped, STATE),
        }
        self.has_lidar = f"{prefix}lidar" in topics
        needed = {f"/{role}/scene_tokens", f"/{role}/target_point", _MOUNTS}
        if not self.cameras or (lacking := needed - topics):
            what = "no raw pictures (--bag-raw)" if not self.cameras else f"no {sorted(lacking)}"
            raise ValueError(f"bag {bag} has {what}; record it with an encoder: --encoder, --bag")

    def tokens(self) -> dict[int, SceneTokens]:
        """The recorded tokens by stamp."""
        types = MessageTypes()
        found = {}
        for message in self._messages({f"/{self._role}/scene_tokens"}):
            read: Any = types.store.deserialize_cdr(message.raw, "flad_msgs/msg/SceneTokens")
            found[read.header.stamp.sec * 10**9 + read.header.stamp.nanosec] = read
        return found

    def mounts(self) -> list[bytes]:
        """Where the sensors stand."""
        return [message.raw for message in self._messages({_MOUNTS})]

    def steps(self) -> Iterator[tuple[int, list[_Recorded]]]:
        """The sensors of every step, in order."""
        topics = set(self.kinds) - {_MOUNTS}
        for stamp_ns, group in groupby(self._messages(topics), lambda m: m.stamp_ns):
            yield stamp_ns, list(group)

    def _messages(self, topics: set[str]) -> Iterator[_Recorded]:
        with Reader(self._bag) as reader:
            chosen = [c for c in reader.connections if c.topic in topics]
            for connection, stamp_ns, raw in reader.messages(connections=chosen):
                yield _Recorded(connection.topic, stamp_ns, bytes(raw))


class Replay:
    """Plays one drive to one encoder process; use it once."""

    def __init__(self, drive: RecordedDrive, role: str, domain_id: int, check: Callable[[], None]):
        self._drive, self._role, self._check = drive, role, check
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain_id)
        self._node = rclpy.create_node("replay", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._publishers = {
            topic: self._node.create_publisher(kind, topic, qos)
            for topic, (kind, qos) in drive.kinds.items()
        }
        self._heard: dict[int, SceneTokens] = {}
        self._node.create_subscription(
            SceneTokens, f"/{role}/scene_tokens", self._on_tokens, LOCKSTEP
        )

    def close(self) -> None:
        """Leave DDS."""
        self._executor.remove_node(self._node)
        self._executor.shutdown(timeout_sec=1.0)
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def run(self, recorded: dict[int, SceneTokens]) -> dict[int, SceneTokens]:
        """Play everything; returns the tokens of the stamps in ``recorded``.

        Raises:
            TimeoutError: naming the tick that was not answered.
            FladError: if the encoder has ended.
        """
        for mount in self._drive.mounts():  # it does not listen before it knows them
            self._publishers[_MOUNTS].publish(mount)
        target = self._publishers[f"/{self._role}/target_point"]
        self._wait(lambda: target.get_subscription_count() > 0, "the encoder listening", _START_S)
        for stamp_ns, messages in self._drive.steps():
            for message in messages:
                self._publishers[message.topic].publish(message.raw)
            if stamp_ns in recorded:
                what = f"tokens of the tick of {stamp_ns * 1e-9:.3f} s"
                self._wait(partial(self._heard.__contains__, stamp_ns), what, _TICK_S)
        return self._heard

    def _on_tokens(self, msg: SceneTokens) -> None:
        self._heard[msg.header.stamp.sec * 10**9 + msg.header.stamp.nanosec] = msg

    def _wait(self, condition: Callable[[], bool], what: str, deadline_s: float) -> None:
        end_s = time.monotonic() + deadline_s
        while not condition():
            self._check()
            if time.monotonic() > end_s:
                raise TimeoutError(f"{what} did not happen within {deadline_s:g} s")
            self._executor.spin_once(timeout_sec=0.05)


def replay(bag: Path, model: str, *, role: str = "vehicle_0", logs: Path) -> Comparison:
    """Play ``bag`` to a new encoder process and compare.

    Raises:
        ValueError: if the bag lacks what is needed.
        FladError, TimeoutError: if the encoder ends or does not answer.
    """
    drive = RecordedDrive(bag, role)
    recorded = drive.tokens()
    wire = {int(WireDtype[name.upper()]): name for name in ("fp32", "fp16", "int8")}
    option = EncoderOption(
        model=model, period_s=_period_s(recorded), wire=wire[next(iter(recorded.values())).dtype]
    )
    sensors = EncoderSensors(drive.cameras, drive.has_lidar)
    with own_domain() as domain_id, Supervisor(logs) as supervisor:
        start_encoder(supervisor, option, sensors, role=role, mode="lockstep", domain_id=domain_id)
        player = Replay(drive, role, domain_id, supervisor.check)
        try:
            heard = player.run(recorded)
        finally:
            player.close()
    return compare(recorded, heard)


def compare(recorded: dict[int, Any], heard: dict[int, Any]) -> Comparison:
    """Tokens of the same stamps."""
    identical, largest = 0, 0.0
    for stamp_ns, before in recorded.items():
        after = heard[stamp_ns]
        identical += (
            bytes(before.data) == bytes(after.data)
            and list(before.scale) == list(after.scale)
            and list(map(bool, before.view_valid)) == list(after.view_valid)
        )
        a, b = (decode_tokens(tokens_from_msg(m)) for m in (before, after))
        largest = max(largest, float(np.abs(a - b).max(initial=0.0)))
    return Comparison(
        num_ticks=len(recorded),
        num_identical=identical,
        max_difference=largest,
        same_model=all(recorded[s].model_hash == heard[s].model_hash for s in recorded),
    )


def _period_s(recorded: dict[int, Any]) -> float:
    """The smallest distance of two recorded ticks."""
    stamps = sorted(recorded)
    if len(stamps) < 2:
        raise ValueError(f"the bag has tokens of {len(stamps)} ticks; a replay needs at least 2")
    return min(b - a for a, b in pairwise(stamps)) * 1e-9


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; status 0 where every tick is identical."""
    parser = argparse.ArgumentParser(prog="replay", description=__doc__)
    parser.add_argument("bag", type=Path, help="a rosbag2 folder")
    parser.add_argument("--encoder", default="small", help="a model (default: %(default)s)")
    parser.add_argument("--role", default="vehicle_0", help="default: %(default)s")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="flad_replay_") as folder:
        try:
            found = replay(args.bag, args.encoder, role=args.role, logs=Path(folder))
        except (ValueError, ReaderError, FladError, TimeoutError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    print(found.text)
    return 0 if found.num_identical == found.num_ticks else 1


if __name__ == "__main__":
    raise SystemExit(main())

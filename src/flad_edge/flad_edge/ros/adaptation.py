# SPDX-License-Identifier: Apache-2.0
"""What the edge node does beside driving: takes uploads in, tunes, loads another release.

Nothing of it runs in the threads that judge or answer requests, but for a look once a second. An
upload is ``std_msgs/UInt8MultiArray`` with the bytes of one clip; its receipt is a
``diagnostic_msgs/DiagnosticStatus``: ``name`` the vehicle, ``hardware_id`` the clip, ``level`` OK
or ERROR, ``message`` why not.
"""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import UInt8MultiArray
from std_srvs.srv import Trigger

from flad_common.error_codes import UPLOAD_QUOTA
from flad_common.ros.qos import LOCKSTEP
from flad_common.supervision import Supervisor
from flad_edge.adapt.store import ReleaseStore, StoredRelease
from flad_edge.adapt.tuner import AdaptConfig, Tuner
from flad_edge.adapt.uploads import Receipt, UploadBox
from flad_edge.service.driving_model import ServedModel
from flad_edge.service.releases import Release
from flad_edge.service.served_adllm import served_release
from flad_perception.worker import Worker

_MOST_WAITING = 8  # uploads; a clip may have megabytes
_CLOSE_S = 10.0


class Adaptation:
    """Exists while the node is configured; works while it is active.

    Args:
        node: that has the topics.
        store: of releases.
        config: what is taken in and when it is tuned.
        device: that models are loaded to.
        log_folder: for the logs of tunings.
    """

    def __init__(
        self,
        node: LifecycleNode,
        store: ReleaseStore,
        config: AdaptConfig,
        device: str,
        log_folder: Path,
    ) -> None:
        self._node = node
        self._store = store
        self._config = config
        self._device = device
        self._lock = threading.Lock()
        # Below the lock, which nobody holds while it reads or writes a file:
        self._problem = ""
        self._waiting = 0
        self._counts: Counter[str] = Counter()
        self._num_frames = self._num_bytes = 0
        self._wanted: tuple[str, str] | None = None  # the release that shall drive
        self._live: Callable[[], Release] | None = None
        self._swap: Callable[[ServedModel], None] | None = None
        # Of the thread that keeps uploads:
        self._box: UploadBox | None = None
        # Of the executor's thread:
        self._num_tuned_frames = 0
        self._num_overflown = 0
        self._supervisor = Supervisor(log_folder)
        self._tuner = Tuner(config, store.root, self._supervisor)
        self._service = node.create_service(Trigger, "edge/serve_live", self._on_serve_live)
        self._receipt_pub: Any = None
        self._clip_sub: Any = None
        if config.uploads_folder:
            self._box = UploadBox(Path(config.uploads_folder), config.uploads)
            self._num_bytes = self._box.num_bytes
            self._receipt_pub = node.create_publisher(
                DiagnosticStatus, "edge/clip_receipts", LOCKSTEP
            )
            self._clip_sub = node.create_subscription(
                UInt8MultiArray, "edge/clips", self._on_clip, LOCKSTEP
            )

    # --- with the node's lifecycle --------------------------------------------------------------

    def activate(self, live: Callable[[], Release], swap: Callable[[ServedModel], None]) -> None:
        """Begin to work.

        Args:
            live: the release that drives.
            swap: gives the service another model.
        """
        with self._lock:
            self._live, self._swap, self._wanted = live, swap, None
        self._loader: Worker[StoredRelease] = Worker(self._load, self._not_loaded, "newest")
        self._keeper: Worker[bytes] = Worker(self._keep, self._not_kept, "all")

    def deactivate(self) -> None:
        """Stop all of it, a tuning too.

        Raises:
            TimeoutError: if a release is still being loaded, or an upload kept, after a while.
        """
        with self._lock:
            self._live = self._swap = None
            self._waiting = 0
        with contextlib.ExitStack() as all_of_it:  # each, also if one before it is late
            all_of_it.callback(self._loader.close, _CLOSE_S)
            all_of_it.callback(self._keeper.close, _CLOSE_S)
            all_of_it.callback(self._supervisor.stop)
            self._tuner = Tuner(self._config, self._store.root, self._supervisor)

    def destroy(self) -> None:
        """Undo the constructor, in reverse."""
        if self._clip_sub is not None:
            self._node.destroy_subscription(self._clip_sub)
            self._node.destroy_publisher(self._receipt_pub)
        self._node.destroy_service(self._service)

    def figures(self) -> dict[str, float | int | str]:
        """For the node's diagnostics; names are stable."""
        with self._lock:
            counts, num_bytes = self._counts.copy(), self._num_bytes
            new_frames = self._num_frames - self._num_tuned_frames
            found: dict[str, float | int | str] = {
                "release_problem": self._problem,
                "tuning": int(self._tuner.is_tuning),
            }
        if not self._config.uploads_folder:
            return found
        well = {name: counts.pop(name, 0) for name in ("accepted", "again", "gave_way")}
        counts[UPLOAD_QUOTA.name] += self._num_overflown
        refused = ", ".join(f"{k} {v}" for k, v in sorted(counts.items()) if v)
        return found | {
            **{f"uploads_{name}": count for name, count in well.items()},
            "uploads_refused": refused,
            "uploads_mib": num_bytes / 2**20,
            "uploads_new_frames": new_frames,
        }

    def look(self, now_s: float, busy_share: float) -> None:
        """Once a second: whether to tune, and what became of a tuning."""
        with self._lock:
            num_frames = self._num_frames
        new_frames = num_frames - self._num_tuned_frames
        was_tuning = self._tuner.is_tuning
        ended = self._tuner.look(now_s, new_frames=new_frames, busy_share=busy_share)
        if self._tuner.is_tuning and not was_tuning:
            self._node.get_logger().info(f"tuning begins on {new_frames} new frames")
            self._num_tuned_frames = num_frames
        if ended is None:
            return
        if ended.succeeded:
            self._node.get_logger().info(f"tuning ended\n{ended.text}")
            self._load_live()
        else:
            self._node.get_logger().error(f"tuning failed\n{ended.text}")
            with self._lock:
                self._problem = f"tuning failed: {ended.text.strip().splitlines()[-1]}"

    # --- another release ------------------------------------------------------------------------

    def _on_serve_live(self, request: Any, response: Any) -> Any:
        response.success, response.message = self._load_live()
        return response

    def _load_live(self) -> tuple[bool, str]:
        """Begin to load what the store says is live; whether that can be, and what happens."""
        with self._lock:
            live = self._live
        if live is None:
            return False, "the edge is not active"
        try:
            stored = self._store.live()
        except (OSError, ValueError) as error:
            return False, str(error)
        if stored is None:
            return False, f"{self._store.root} has no live release"
        name = stored.release.name
        with self._lock:
            self._problem = ""
            # What is being loaded is of no use any more, if it is another one.
            self._wanted = (name, stored.release.adllm_hash)
            now = live()
            if (now.name, now.adllm_hash) == self._wanted:
                return True, f"{name} drives already"
        self._loader.submit(stored)
        return True, f"{name} is being loaded; it drives from the batch after that"

    def _load(self, stored: StoredRelease) -> None:
        served = served_release(stored, device=self._device)
        release = stored.release
        with self._lock:
            if self._swap is None or self._wanted != (release.name, release.adllm_hash):
                return  # the edge ends, or another release was made live meanwhile
            self._swap(served)
        self._node.get_logger().info(
            f"release {release.name!r} drives, AD-LLM {release.adllm_hash}"
        )

    def _not_loaded(self, stored: StoredRelease, error: Exception) -> None:
        with self._lock:
            self._problem = f"{stored.release.name}: {type(error).__name__}: {error}"
        lines = traceback.format_exception(type(error), error, error.__traceback__)
        self._node.get_logger().error(f"a release cannot be loaded\n{''.join(lines)}")

    # --- uploads --------------------------------------------------------------------------------

    def _on_clip(self, msg: UInt8MultiArray) -> None:
        with self._lock:
            if self._live is None:
                return
            is_full = self._waiting >= _MOST_WAITING
            self._waiting += not is_full
        if is_full:
            self._num_overflown += 1
            why = f"{_MOST_WAITING} uploads wait to be kept; send this one again later"
            self._send(Receipt(vehicle="", clip="", error=UPLOAD_QUOTA, text=why))
            return
        self._keeper.submit(np.asarray(msg.data, dtype=np.uint8).tobytes())

    def _keep(self, data: bytes) -> None:
        box = self._box
        assert box is not None
        with self._lock:
            live = self._live
            self._waiting = max(0, self._waiting - 1)
        if live is None:
            return
        receipt = box.take(data, live(), time.monotonic())
        with self._lock:
            self._counts = box.counts.copy()
            self._num_frames, self._num_bytes = box.num_frames, box.num_bytes
        self._send(receipt)

    def _not_kept(self, data: bytes, error: Exception) -> None:
        lines = traceback.format_exception(type(error), error, error.__traceback__)
        self._node.get_logger().error(f"an upload cannot be kept\n{''.join(lines)}")

    def _send(self, receipt: Receipt) -> None:
        number = receipt.error.number if receipt.error else 0
        self._receipt_pub.publish(
            DiagnosticStatus(
                level=DiagnosticStatus.ERROR if receipt.error else DiagnosticStatus.OK,
                name=receipt.vehicle,
                hardware_id=receipt.clip,
                message=receipt.text,
                values=[KeyValue(key="error", value=str(number))],
            )
        )

# SPDX-License-Identifier: Apache-2.0
"""Tells a running edge node that its store has another live release, and waits until it drives."""

from __future__ import annotations

import time
from collections.abc import Callable

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from std_srvs.srv import Trigger

from flad_common.ros.qos import DIAGNOSTICS

SERVICE, DIAGNOSTICS_TOPIC = "/edge/serve_live", "/diagnostics"


def serve_live(name: str, *, deadline_s: float) -> str:
    """Have the edge drive on what its store says is live.

    Args:
        name: of the release that shall drive afterwards.
        deadline_s: for all of it.

    Returns:
        One sentence for people.

    Raises:
        ValueError: if the edge refuses, or drives on another release of its store.
        TimeoutError: if no edge answers, or it does not drive on the release by then.
    """
    context = rclpy.Context()
    rclpy.init(context=context)
    executor = SingleThreadedExecutor(context=context)
    node = rclpy.create_node("release_client", context=context)
    executor.add_node(node)
    end_s = time.monotonic() + deadline_s

    def wait(is_so: Callable[[], bool], what: str) -> None:
        while not is_so():
            if time.monotonic() > end_s:
                raise TimeoutError(f"{what} did not happen within {deadline_s:g} s")
            executor.spin_once(timeout_sec=0.1)

    figures: dict[str, str] = {}

    def note(msg: DiagnosticArray) -> None:
        for status in msg.status:
            if status.hardware_id == "edge":
                figures.clear()
                figures.update({value.key: value.value for value in status.values})

    try:
        client = node.create_client(Trigger, SERVICE)
        node.create_subscription(DiagnosticArray, DIAGNOSTICS_TOPIC, note, DIAGNOSTICS)
        wait(client.service_is_ready, f"an edge node that offers {SERVICE}")
        future = client.call_async(Trigger.Request())
        wait(future.done, f"an answer of {SERVICE}")
        response = future.result()
        if not response.success:
            raise ValueError(f"the edge refuses: {response.message}")
        figures.clear()
        wait(
            lambda: figures.get("release") == name or bool(figures.get("release_problem")),
            f"the edge driving on {name}",
        )
        if figures.get("release") != name:
            raise ValueError(f"the edge stays as it is: {figures['release_problem']}")
        return f"the edge drives on {name}, AD-LLM {figures['adllm_hash']}"
    finally:
        executor.remove_node(node)
        node.destroy_node()
        rclpy.shutdown(context=context)

# SPDX-License-Identifier: Apache-2.0
"""An encoder as its own process, over real DDS; the test's process plays its bridge."""

from __future__ import annotations

import array
import time

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from flad_msgs.msg import ScenePrediction, SceneTokens
from geometry_msgs.msg import PointStamped, TransformStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image, PointCloud2, PointField
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from flad_bringup import topology
from flad_common.ros.qos import (
    DIAGNOSTICS,
    LOCKSTEP,
    SENSOR_OUT,
    STATE,
    TF_STATIC,
    VIEW,
)
from flad_perception.config import load_encoder_config

ROLE = "vehicle_0"
STEP_NS = 50_000_000
CONFIG = load_encoder_config("small")
CAMERAS = tuple(view.camera for view in CONFIG.views)
START_S = 120.0


class Stand:
    """The bridge of one encoder process."""

    def __init__(
        self,
        supervisor,
        model,
        *,
        autostart=True,
        start_s=START_S,
        spec=topology.ENCODER,
        **parameters,
    ):
        self.command = encoder_command(model, spec=spec, **parameters)
        if not autostart:
            self.command.remove("autostart:=true")
            self.command.remove("-p")
        self.child = supervisor.start("encoder", self.command)
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node("stand", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        base = f"/carla/{ROLE}"
        create = self.node.create_publisher
        self.image_pubs = {c: create(Image, f"{base}/{c}/image", SENSOR_OUT) for c in CAMERAS}
        self.cloud_pub = create(PointCloud2, f"{base}/lidar", SENSOR_OUT)
        self.odometry_pub = create(Odometry, f"{base}/odometry", STATE)
        self.tf_pub = create(TFMessage, "/tf_static", TF_STATIC)
        self.target_pub = create(PointStamped, f"/{ROLE}/target_point", STATE)
        self.heard = {name: [] for name in ("tokens", "prediction", "markers", "diagnostics")}
        for name, kind, topic, qos in (
            ("tokens", SceneTokens, f"/{ROLE}/scene_tokens", LOCKSTEP),
            ("prediction", ScenePrediction, f"/{ROLE}/scene_prediction", STATE),
            ("markers", MarkerArray, f"/{ROLE}/scene_markers", VIEW),
            ("diagnostics", DiagnosticArray, "/diagnostics", DIAGNOSTICS),
        ):
            self.node.create_subscription(kind, topic, self.heard[name].append, qos)
        mount = TransformStamped(child_frame_id=f"{ROLE}/lidar")
        mount.header.frame_id = ROLE
        mount.transform.translation.z, mount.transform.rotation.w = 2.5, 1.0
        self.tf_pub.publish(TFMessage(transforms=[mount]))
        if not autostart:
            assert self.transition(Transition.TRANSITION_CONFIGURE)
        self.until(self.is_heard, "the encoder being discovered", start_s)

    def is_heard(self):
        publishers = (*self.image_pubs.values(), self.cloud_pub, self.odometry_pub, self.tf_pub)
        return all(p.get_subscription_count() for p in (*publishers, self.target_pub))

    def close(self):
        self.executor.remove_node(self.node)
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def until(self, condition, what, deadline_s=30.0):
        end_s = time.monotonic() + deadline_s
        while not condition():
            assert self.child.is_running, f"the encoder ended\n{self.child.tail()}"
            assert time.monotonic() < end_s, f"{what} did not happen\n{self.child.tail()}"
            self.executor.spin_once(timeout_sec=0.02)

    def step(self, step, *, without=(), speed_mps=5.0, seed=None):
        """Publish the sensors of one step of 50 ms; cameras only of even ones."""
        rng = np.random.default_rng(step if seed is None else seed)
        for camera in CAMERAS:
            if step % 2 == 0 and camera not in without:
                self.image(camera, step, rng.integers(0, 256, (24, 32, 4), dtype=np.uint8))
        if "lidar" not in without:
            points = rng.uniform(-20.0, 20.0, (200, 4)).astype(np.float32)
            self.cloud_pub.publish(cloud(step, points))
        odometry = Odometry(child_frame_id=ROLE)
        odometry.header.frame_id = "map"
        stamp(odometry, step)
        odometry.pose.pose.orientation.w = 1.0
        odometry.twist.twist.linear.x = speed_mps
        self.odometry_pub.publish(odometry)

    def image(self, camera, step, pixels, **changes):
        msg = Image(height=pixels.shape[0], width=pixels.shape[1], encoding="bgra8")
        stamp(msg, step)
        msg.step = 4 * pixels.shape[1]
        msg.data = array.array("B", pixels.tobytes())
        for name, value in changes.items():
            setattr(msg, name, value)
        self.image_pubs[camera].publish(msg)

    def answer(self, step, deadline_s=30.0):
        """The tokens of a step."""
        self.until(lambda: step in self.answered(), f"tokens of step {step}", deadline_s)
        return self.heard["tokens"][self.answered().index(step)]

    def answered(self):
        return [step_of(m) for m in self.heard["tokens"]]

    def transition(self, number):
        client = self.node.create_client(ChangeState, f"/{ROLE}/encoder/change_state")
        self.until(client.service_is_ready, "the lifecycle service", START_S)
        future = client.call_async(ChangeState.Request(transition=Transition(id=number)))
        self.until(future.done, f"transition {number}", START_S)
        return future.result().success

    def diagnosis(self, condition, what):
        """The newest status of the encoder that fulfils a condition, its values as a dict."""

        def found():
            statuses = [s for array_ in self.heard["diagnostics"] for s in array_.status]
            mine = [s for s in statuses if s.name.endswith("encoder: scene tokens")]
            return [s for s in mine if condition(s)]

        self.until(found, what)
        status = found()[-1]
        return status, {v.key: v.value for v in status.values}


def encoder_command(model, *, spec=topology.ENCODER, **parameters):
    """The command line of an encoder with one thread."""
    parameters = {"encoder.model": str(model), "encoder.num_threads": "1", **parameters}
    return topology.node_command(spec, vehicle=ROLE, parameters=parameters)


def stamp(msg, step):
    msg.header.stamp.sec, msg.header.stamp.nanosec = divmod(step * STEP_NS, 1_000_000_000)


def step_of(msg):
    return (msg.header.stamp.sec * 1_000_000_000 + msg.header.stamp.nanosec) // STEP_NS


def cloud(step, points):
    msg = PointCloud2(height=1, width=len(points), point_step=16, row_step=16 * len(points))
    stamp(msg, step)
    msg.header.frame_id = f"{ROLE}/lidar"
    msg.fields = [
        PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1)
        for i, name in enumerate(("x", "y", "z", "intensity"))
    ]
    msg.data = array.array("B", points.tobytes())
    return msg

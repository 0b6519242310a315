# SPDX-License-Identifier: Apache-2.0
"""An encoder on three computers of a vehicle, each a process, over real DDS: one dies, two die."""

from __future__ import annotations

import dataclasses
import sys
import time

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from encoder_stand import CONFIG, ROLE, Stand, encoder_command, step_of
from flad_msgs.msg import SceneTokens
from lifecycle_msgs.msg import Transition

from flad_bringup import topology
from flad_common.ros.qos import LOCKSTEP
from flad_common.supervision import Supervisor
from flad_perception.model.encoder import build_encoder
from flad_perception.ros.messages import tokens_from_msg
from flad_perception.weights import save_encoder
from flad_perception.wire import decode_tokens

COMPUTERS = '["front", "middle", "rear"]'
ON_STAGES = dataclasses.replace(
    topology.ENCODER, package="flad_edge", executable="encoder_on_stages"
)
_START_S = 240.0


class Vehicle:
    """Its computers, and beside them one that runs the whole encoder on the same sensors."""

    def __init__(self, supervisor, model):
        self._supervisor, self._model = supervisor, model
        self.stages = {name: self.start_stage(name) for name in ("middle", "rear")}
        options = {"mode": "lockstep", "wire": "fp32", "vehicle_frame": ROLE}
        alone = encoder_command(model, **options)
        supervisor.start("alone", [w.replace(f"__ns:=/{ROLE}", "__ns:=/alone") for w in alone])
        self.stand = Stand(
            supervisor,
            model,
            spec=ON_STAGES,
            start_s=_START_S,
            stages=COMPUTERS,
            stages_wait_s=str(_START_S),
            **options,
        )
        self._alone = []
        self.stand.node.create_subscription(
            SceneTokens, "/alone/scene_tokens", self._alone.append, LOCKSTEP
        )
        publishers = (*self.stand.image_pubs.values(), self.stand.cloud_pub)
        self.stand.until(
            lambda: all(p.get_subscription_count() >= 2 for p in publishers),
            "both encoders hearing the sensors",
            _START_S,
        )
        self._step = 0

    def start_stage(self, name):
        command = [sys.executable, "-m", "flad_edge.encoder_stage_node", "--ros-args"]
        command += ["-r", f"__ns:=/{ROLE}/{name}"]
        for key, value in {
            "stages": COMPUTERS,
            "computer": name,
            "model": self._model,
            "num_threads": 1,
            "autostart": "true",
        }.items():
            command += ["-p", f"{key}:={value}"]
        return self._supervisor.start(name, command)

    def start_again(self, name):
        """Another process in the place of one that was killed."""
        if name == "front":
            self.stand.child = self._supervisor.start("encoder", self.stand.command)
        else:
            self.stages[name] = self.start_stage(name)

    def kill(self, name):
        self._supervisor.kill_child(self.stand.child if name == "front" else self.stages[name])

    def tick(self):
        """The sensors of one moment; its step."""
        self._step += 2
        self.stand.step(self._step - 1)
        self.stand.step(self._step)
        return self._step

    def same_tokens(self):
        """Ticks until both encoders have answered one; that they have answered it alike."""
        end_s = time.monotonic() + _START_S
        while True:
            step = self.tick()
            self.heard_alone(step)
            next_s = time.monotonic() + 2.0
            while step not in self.stand.answered() and time.monotonic() < next_s:
                self.stand.executor.spin_once(timeout_sec=0.02)
            if step in self.stand.answered():
                break
            logs = "\n".join(c.tail() for c in (self.stand.child, *self.stages.values()))
            assert time.monotonic() < end_s, f"the stages did not answer\n{logs}"
        self.assert_same(step)

    def assert_same(self, step):
        """Both encoders' tokens of a step."""
        on_stages = decode_tokens(tokens_from_msg(self.stand.answer(step, _START_S)))
        np.testing.assert_allclose(on_stages, self.heard_alone(step), rtol=1e-5, atol=1e-5)
        assert on_stages.std() > 0.01  # they say something

    def heard_alone(self, step):
        def found():
            return [m for m in self._alone if step_of(m) == step]

        self.stand.until(found, f"the lone encoder's tokens of step {step}", _START_S)
        return decode_tokens(tokens_from_msg(found()[0]))

    def told_why(self, *words):
        """Ticks once; the step that stayed without an answer, and that the reason was heard."""
        self.stand.heard["diagnostics"].clear()
        step = self.tick()
        self.heard_alone(step)
        self.stand.diagnosis(
            lambda status: (
                status.name.startswith(f"/{ROLE}/")
                and status.level == DiagnosticStatus.ERROR
                and all(word in status.message for word in words)
            ),
            f"an error that says {words}",
        )
        return step


def test_three_computers_give_the_tokens_of_one_also_after_any_of_them_came_back(tmp_path):
    model = tmp_path / "untrained.safetensors"
    save_encoder(model, build_encoder(CONFIG, seed=1), CONFIG)
    with Supervisor(tmp_path / "logs") as supervisor:
        vehicle = Vehicle(supervisor, model)
        for _ in range(3):
            vehicle.same_tokens()

        for transition in (
            Transition.TRANSITION_DEACTIVATE,
            Transition.TRANSITION_CLEANUP,
            Transition.TRANSITION_CONFIGURE,
            Transition.TRANSITION_ACTIVATE,
        ):
            assert vehicle.stand.transition(transition)
        vehicle.same_tokens()
        burst = [vehicle.tick() for _ in range(8)]  # several are with the stages at once
        for step in burst:
            vehicle.assert_same(step)
        assert vehicle.stand.answered()[-8:] == burst

        vehicle.kill("middle")
        unanswered = [vehicle.told_why("middle") for _ in range(2)]
        vehicle.start_again("middle")
        vehicle.same_tokens()
        assert not set(unanswered) & set(vehicle.stand.answered())

        vehicle.kill("front")
        vehicle.start_again("front")
        vehicle.same_tokens()
        vehicle.same_tokens()
        assert vehicle.stages["rear"].is_running  # it was there all the time
        vehicle.stand.close()

# SPDX-License-Identifier: Apache-2.0
"""A node's parameters mean what the dataclass says; a failing transition is heard."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import rclpy
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSCompatibility, ReliabilityPolicy, qos_check_compatible

from flad_common.config import from_mapping, knob, section
from flad_common.ros import qos
from flad_common.ros.lifecycle import ManagedNode, bring_to_active, reports_errors, run_node
from flad_common.ros.parameters import from_node


@dataclass(frozen=True, kw_only=True)
class Gains:
    kp: float = knob(0.5, unit="1", doc="Gain.")


@dataclass(frozen=True, kw_only=True)
class Settings:
    role: str = knob(unit="1", doc="Role name.")
    gains: Gains = section(Gains, doc="Gains.")
    limits_mps: tuple[float, ...] = knob((1.0, 2.0), unit="m/s", doc="Limits.")
    tags: tuple[str, ...] = knob((), unit="1", doc="Tags.")
    retries: int = knob(3, unit="1", doc="Tries.")


@pytest.fixture(scope="module", autouse=True)
def ros():
    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.fixture
def make_node():
    nodes = []

    def make(**values):
        overrides = [Parameter(name.replace("__", "."), value=v) for name, v in values.items()]
        nodes.append(rclpy.create_node("settings", parameter_overrides=overrides))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()


def test_parameters_and_a_mapping_give_the_same_config(make_node):
    node = make_node(role="vehicle_0", gains__kp=2.5, limits_mps=[3.0, 4.0, 5.0], tags=["a"])

    assert from_node(Settings, node) == from_mapping(
        Settings,
        {"role": "vehicle_0", "gains": {"kp": 2.5}, "limits_mps": [3.0, 4.0, 5.0], "tags": ["a"]},
    )


def test_defaults_come_from_the_dataclass_and_configure_may_run_twice(make_node):
    node = make_node(role="vehicle_0")

    assert from_node(Settings, node) == Settings(role="vehicle_0") == from_node(Settings, node)


def test_the_description_has_the_unit(make_node):
    node = make_node(role="vehicle_0")
    from_node(Settings, node)

    assert node.describe_parameter("limits_mps").description == "Limits. [m/s]"
    assert node.describe_parameter("gains.kp").description == "Gain. [1]"


def test_a_parameter_without_default_must_be_given(make_node):
    with pytest.raises(ValueError, match=r"Settings needs \['role'\]"):
        from_node(Settings, make_node())


def test_an_integer_is_not_a_float_for_ros_either(make_node):
    with pytest.raises(Exception, match="gains"):
        from_node(Settings, make_node(role="vehicle_0", gains__kp=1))


class Stumbling(ManagedNode):
    def __init__(self):
        super().__init__("stumbling")
        self.said: list[str] = []

    def get_logger(self):
        said = self.said

        class Listener:
            def error(self, text):
                said.append(text)

        return Listener()

    @reports_errors
    def on_configure(self, state) -> TransitionCallbackReturn:
        raise ValueError("kp must be positive, got -1.0")


def test_what_a_transition_raises_is_logged_with_its_traceback():
    node = Stumbling()
    with pytest.raises(RuntimeError, match="stumbling: trigger_configure ended in"):
        bring_to_active(node)

    assert "on_configure failed" in node.said[0]
    assert "ValueError: kp must be positive, got -1.0" in node.said[0]
    node.destroy_node()


class Noting(ManagedNode):
    """Writes down what becomes of it."""

    def __init__(self):
        super().__init__("noting")
        self.steps: list[str] = []

    def on_configure(self, state) -> TransitionCallbackReturn:
        self.steps.append("configure")
        return super().on_configure(state)

    def on_activate(self, state) -> TransitionCallbackReturn:
        self.steps.append("activate")
        return super().on_activate(state)

    def on_deactivate(self, state) -> TransitionCallbackReturn:
        self.steps.append("deactivate")
        return super().on_deactivate(state)

    def on_cleanup(self, state) -> TransitionCallbackReturn:
        self.steps.append("cleanup")
        return super().on_cleanup(state)


@pytest.mark.parametrize(
    ("begun", "undone"),
    [(0, []), (1, ["cleanup"]), (2, ["deactivate", "cleanup"])],
)
def test_a_node_that_is_shut_down_undoes_what_it_began(begun, undone):
    node = Noting()
    for transition in (node.trigger_configure, node.trigger_activate)[:begun]:
        assert transition().name == "SUCCESS"
    assert node.trigger_shutdown().name == "SUCCESS"
    assert node.steps[begun:] == undone
    node.destroy_node()


def test_a_node_that_runs_is_closed_when_it_is_interrupted(monkeypatch):
    """Also where the closing itself fails, ROS is left."""
    made = []

    class Short(Noting):
        def __init__(self):
            super().__init__()
            made.append(self)

        def close(self):
            self.steps.append("close")
            raise TimeoutError("a job goes on")

    def interrupted(node):
        raise KeyboardInterrupt

    left = []
    monkeypatch.setattr(rclpy, "init", lambda args: None)
    monkeypatch.setattr(rclpy, "try_shutdown", lambda: left.append(True))
    monkeypatch.setattr(rclpy, "spin", interrupted)
    with pytest.raises(TimeoutError, match="goes on"):
        run_node(Short)
    assert made[0].steps == ["close"] and left == [True]
    made[0].destroy_node()


PROFILES = {name: value for name, value in vars(qos).items() if name.isupper()}


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_both_ends_of_a_profile_match_and_a_viewer_with_sensor_data_too(name):
    profile = PROFILES[name]

    assert qos_check_compatible(profile, profile)[0] == QoSCompatibility.OK
    assert qos_check_compatible(profile, qos.SENSOR)[0] == QoSCompatibility.OK


def test_who_comes_late_hears_what_was_latched():
    for profile in (qos.LATCHED, qos.TF_STATIC):
        assert profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
        assert profile.reliability == ReliabilityPolicy.RELIABLE
    assert qos_check_compatible(qos.STATE, qos.LATCHED)[0] == QoSCompatibility.ERROR

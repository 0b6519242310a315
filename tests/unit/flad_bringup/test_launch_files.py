# SPDX-License-Identifier: Apache-2.0
"""The launch files against recording stand-ins of launch and launch_ros, which PyPI lacks.

What they cannot show (that launch accepts the actions) was tried with the real packages once and
is tried by every ``ros2 launch``; this catches a typo, a lost node, an argument without a word.
"""

from __future__ import annotations

import runpy
import sys
from types import ModuleType

import pytest

from flad_bringup import topology

NAMES = {
    "launch": ["LaunchDescription"],
    "launch.actions": [
        "DeclareLaunchArgument",
        "EmitEvent",
        "ExecuteProcess",
        "RegisterEventHandler",
        "SetEnvironmentVariable",
    ],
    "launch.conditions": ["IfCondition"],
    "launch.events": ["matches_action"],
    "launch.substitutions": [
        "EnvironmentVariable",
        "LaunchConfiguration",
        "PathJoinSubstitution",
    ],
    "launch_ros": [],
    "launch_ros.actions": ["LifecycleNode", "Node", "SetParameter"],
    "launch_ros.event_handlers": ["OnStateTransition"],
    "launch_ros.events": [],
    "launch_ros.events.lifecycle": ["ChangeState"],
    "launch_ros.parameter_descriptions": ["ParameterValue"],
    "launch_ros.substitutions": ["FindPackageShare"],
}


class Recorded:
    """An action or substitution, as it was written down."""

    def __init__(self, kind, args, kwargs):
        self.kind, self.args, self.kwargs = kind, args, kwargs

    def __str__(self):
        return f"<{self.args[0]}>" if self.kind == "LaunchConfiguration" else self.kind


@pytest.fixture
def described(monkeypatch, workspace):
    for module_name, kinds in NAMES.items():
        module = ModuleType(module_name)
        for kind in kinds:
            setattr(module, kind, lambda *a, _kind=kind, **k: Recorded(_kind, a, k))
        monkeypatch.setitem(sys.modules, module_name, module)

    def load(name):
        path = workspace.root / "launch" / f"{name}.launch.py"
        return runpy.run_path(str(path))["generate_launch_description"]().args[0]

    return load


def of_kind(actions, *kinds):
    return [action for action in actions if action.kind in kinds]


@pytest.mark.parametrize("name", ["vehicle", "simulation", "edge"])
def test_every_argument_is_declared_with_a_sentence_and_used(described, name):
    actions = described(name)
    declared = {a.args[0]: a.kwargs for a in of_kind(actions, "DeclareLaunchArgument")}
    used = set()

    def walk(value):
        if isinstance(value, Recorded):
            if value.kind == "LaunchConfiguration":
                used.add(value.args[0])
            if value.kind != "DeclareLaunchArgument":
                walk((value.args, value.kwargs))
        elif isinstance(value, dict):
            walk(tuple(value.values()))
        elif isinstance(value, (list, tuple)):
            for item in value:
                walk(item)

    walk(actions)
    assert used == set(declared)
    for argument, options in declared.items():
        assert options["description"].endswith("."), argument
        if options.get("choices") and "default_value" in options:
            assert options["default_value"] in options["choices"]


@pytest.mark.parametrize("name", ["vehicle", "simulation", "edge"])
def test_every_node_begins_with_our_profile_of_fast_dds_unless_the_user_has_one(described, name):
    actions = described(name)
    kinds = [action.kind for action in actions]
    (setting,) = of_kind(actions, "SetEnvironmentVariable")
    (declared,) = [a for a in actions if a.args and a.args[0] == "dds_profile"]
    default = declared.kwargs["default_value"]

    assert (setting.args[0], str(setting.args[1])) == (default.args[0], "<dds_profile>")
    assert default.kind == "EnvironmentVariable", "the user's own comes first"
    assert default.kwargs["default_value"].args[0][-1] == "fastdds.xml"
    first_start = min(kinds.index(k) for k in kinds if k.endswith("Node") or k == "ExecuteProcess")
    assert actions.index(setting) < first_start


def test_the_vehicle_has_the_nodes_of_the_topology_and_their_topics(described):
    nodes = of_kind(described("vehicle"), "LifecycleNode")

    assert [(n.kwargs["package"], n.kwargs["executable"]) for n in nodes] == [
        (spec.package, spec.executable) for spec in topology.VEHICLE_NODES
    ]
    for node, spec in zip(nodes, topology.VEHICLE_NODES, strict=True):
        told = {name: "".join(map(str, parts)) for name, parts in node.kwargs["remappings"]}
        assert told == {n: t.replace("{vehicle}", "<vehicle>") for n, t in spec.remappings}
        assert str(node.kwargs["namespace"]) == "<vehicle>"


@pytest.mark.parametrize(
    ("name", "specs"), [("vehicle", topology.VEHICLE_NODES), ("edge", topology.EDGE_NODES)]
)
def test_an_optional_node_starts_only_where_it_is_asked_for(described, name, specs):
    actions = described(name)
    starts = of_kind(actions, "LifecycleNode", "RegisterEventHandler", "EmitEvent")

    for spec in specs:
        mine = [a for a in starts if str_of(a.kwargs["condition"]) == f"<{spec.executable}>"]
        assert len(mine) == (3 if spec.optional else 0)
    assert len(starts) == 3 * len(specs)


def str_of(condition):
    return None if condition is None else str(condition.args[0])


def test_a_node_is_activated_once_and_not_again_by_hand(described):
    """Only out of configuring: a manual deactivate must hold."""
    handlers = of_kind(described("vehicle"), "RegisterEventHandler")

    assert len(handlers) == len(topology.VEHICLE_NODES)
    for handler in handlers:
        transition = handler.args[0].kwargs
        assert (transition["start_state"], transition["goal_state"]) == ("configuring", "inactive")


def test_the_edge_has_the_nodes_of_the_topology_and_a_model_of_its_own(described):
    nodes = of_kind(described("edge"), "LifecycleNode")

    assert [(n.kwargs["package"], n.kwargs["executable"]) for n in nodes] == [
        (spec.package, spec.executable) for spec in topology.EDGE_NODES
    ]
    file, model = nodes[0].kwargs["parameters"]
    assert str(file) == "<params_file>"
    assert set(model) == {"releases", "model", "encoder_hash"}
    assert all(value.kwargs["value_type"] is str for value in model.values())
    assert nodes[0].kwargs["condition"] is None
    assert set(nodes[1].kwargs["parameters"][1]) == {"task.units"}


def test_the_simulation_has_the_world_and_the_bridge(described):
    actions = described("simulation")
    (world,) = of_kind(actions, "ExecuteProcess")
    nodes = [n.kwargs["executable"] for n in of_kind(actions, "Node")]

    assert world.kwargs["cmd"][1:3] == list(topology.SIMULATOR)
    assert nodes == [*(spec.executable for spec in topology.SIMULATION_NODES), "rviz2"]

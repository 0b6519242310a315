# SPDX-License-Identifier: Apache-2.0
"""Bring an edge's nodes to active: one AD-LLM for all its vehicles, and SWIFT where asked for.

ros2 launch flad_bringup edge.launch.py releases:=STORE
ros2 launch flad_bringup edge.launch.py model:=adllm.safetensors encoder_hash:=0123456789abcdef
ros2 launch flad_bringup edge.launch.py releases:=STORE planning:=true
"""

from __future__ import annotations

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.conditions import IfCondition
from launch.events import matches_action
from launch.substitutions import (
    EnvironmentVariable,
    LaunchConfiguration,
    PathJoinSubstitution,
)
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare
from lifecycle_msgs.msg import Transition

from flad_bringup.topology import EDGE, EDGE_NODES, NodeSpec

_MODEL = ("releases", "model", "encoder_hash")


def generate_launch_description() -> LaunchDescription:
    """Nodes of one edge: ``flad_bringup.topology.EDGE_NODES``."""
    nodes = [(spec, _node(spec)) for spec in EDGE_NODES]
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "releases",
                default_value="",
                description="Folder of a store of releases, whose live one drives; or else model.",
            ),
            DeclareLaunchArgument(
                "model",
                default_value="",
                description="Weights of the AD-LLM, a .safetensors file; needs encoder_hash.",
            ),
            DeclareLaunchArgument(
                "encoder_hash",
                default_value="",
                description="Of the encoder whose tokens it was trained on, 16 digits.",
            ),
            DeclareLaunchArgument(
                "params_file",
                default_value=PathJoinSubstitution(
                    [FindPackageShare("flad_bringup"), "config", "edge.yaml"]
                ),
                description="ROS parameter file for the edge.",
            ),
            DeclareLaunchArgument(
                "units",
                default_value=PathJoinSubstitution(
                    [
                        FindPackageShare("flad_edge"),
                        "config",
                        "clusters",
                        "encoder_small.units.json",
                    ]
                ),
                description="File of the units that SWIFT plans (./flad profile --units).",
            ),
            DeclareLaunchArgument(
                "log_level",
                default_value="info",
                choices=["debug", "info", "warn", "error", "fatal"],
                description="Least severe message that is shown.",
            ),
            DeclareLaunchArgument(
                "dds_profile",
                default_value=EnvironmentVariable(
                    "FASTRTPS_DEFAULT_PROFILES_FILE",
                    default_value=PathJoinSubstitution(
                        [FindPackageShare("flad_bringup"), "config", "fastdds.xml"]
                    ),
                ),
                description="Fast DDS profile of every node; what the environment names wins.",
            ),
            SetEnvironmentVariable(
                "FASTRTPS_DEFAULT_PROFILES_FILE", LaunchConfiguration("dds_profile")
            ),
            *[_switch(spec) for spec in EDGE_NODES if spec.optional],
            *[node for _, node in nodes],
            *[action for spec, node in nodes for action in _bring_to_active(spec, node)],
        ]
    )


def _node(spec: NodeSpec) -> LifecycleNode:
    return LifecycleNode(
        package=spec.package,
        executable=spec.executable,
        name=spec.executable,
        namespace="",
        parameters=[LaunchConfiguration("params_file"), _parameters(spec)],
        remappings=list(spec.remappings),
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        output="screen",
        condition=_condition(spec),
    )


def _parameters(spec: NodeSpec) -> dict:
    """What an argument says; as text: a hash may be all digits."""
    names = {name: name for name in _MODEL} if spec is EDGE else {"task.units": "units"}
    return {
        parameter: ParameterValue(LaunchConfiguration(argument), value_type=str)
        for parameter, argument in names.items()
    }


def _switch(spec: NodeSpec) -> DeclareLaunchArgument:
    return DeclareLaunchArgument(
        spec.executable,
        default_value="false",
        choices=["true", "false"],
        description=f"Run the {spec.executable} too; its parameters stand in params_file.",
    )


def _condition(spec: NodeSpec) -> IfCondition | None:
    return IfCondition(LaunchConfiguration(spec.executable)) if spec.optional else None


def _bring_to_active(spec: NodeSpec, node: LifecycleNode) -> list:
    """Configure ``node``, then activate it. A later manual deactivate is left alone."""

    def request(transition_id: int) -> EmitEvent:
        return EmitEvent(
            event=ChangeState(
                lifecycle_node_matcher=matches_action(node), transition_id=transition_id
            ),
            condition=_condition(spec),
        )

    return [
        RegisterEventHandler(
            OnStateTransition(
                target_lifecycle_node=node,
                start_state="configuring",
                goal_state="inactive",
                entities=[request(Transition.TRANSITION_ACTIVATE)],
            ),
            condition=_condition(spec),
        ),
        request(Transition.TRANSITION_CONFIGURE),
    ]

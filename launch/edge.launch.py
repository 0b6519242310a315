# SPDX-License-Identifier: Apache-2.0
"""Bring an edge's node to active: one AD-LLM for all its vehicles.

ros2 launch flad_bringup edge.launch.py releases:=STORE
ros2 launch flad_bringup edge.launch.py model:=adllm.safetensors encoder_hash:=0123456789abcdef
"""

from __future__ import annotations

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, RegisterEventHandler
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare
from lifecycle_msgs.msg import Transition

from flad_bringup.topology import EDGE_NODES, NodeSpec

_MODEL = ("releases", "model", "encoder_hash")


def generate_launch_description() -> LaunchDescription:
    """Nodes of one edge: ``flad_bringup.topology.EDGE_NODES``."""
    nodes = [_node(spec) for spec in EDGE_NODES]
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
                "log_level",
                default_value="info",
                choices=["debug", "info", "warn", "error", "fatal"],
                description="Least severe message that is shown.",
            ),
            *nodes,
            *[action for node in nodes for action in _bring_to_active(node)],
        ]
    )


def _node(spec: NodeSpec) -> LifecycleNode:
    return LifecycleNode(
        package=spec.package,
        executable=spec.executable,
        name=spec.executable,
        namespace="",
        parameters=[
            LaunchConfiguration("params_file"),
            # As text: a hash may be all digits.
            {name: ParameterValue(LaunchConfiguration(name), value_type=str) for name in _MODEL},
        ],
        remappings=list(spec.remappings),
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        output="screen",
    )


def _bring_to_active(node: LifecycleNode) -> list:
    """Configure ``node``, then activate it. A later manual deactivate is left alone."""

    def request(transition_id: int) -> EmitEvent:
        return EmitEvent(
            event=ChangeState(
                lifecycle_node_matcher=matches_action(node), transition_id=transition_id
            )
        )

    return [
        RegisterEventHandler(
            OnStateTransition(
                target_lifecycle_node=node,
                start_state="configuring",
                goal_state="inactive",
                entities=[request(Transition.TRANSITION_ACTIVATE)],
            )
        ),
        request(Transition.TRANSITION_CONFIGURE),
    ]

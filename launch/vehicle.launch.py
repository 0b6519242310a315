# SPDX-License-Identifier: Apache-2.0
"""Bring one vehicle's nodes to active, under the vehicle's own namespace.

ros2 launch flad_bringup vehicle.launch.py vehicle:=vehicle_0 encoder:=true
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
from launch_ros.actions import LifecycleNode, SetParameter
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.substitutions import FindPackageShare
from lifecycle_msgs.msg import Transition

from flad_bringup.topology import VEHICLE_NODES, NodeSpec


def generate_launch_description() -> LaunchDescription:
    """Nodes of one vehicle: ``flad_bringup.topology.VEHICLE_NODES``."""
    nodes = [(spec, _node(spec)) for spec in VEHICLE_NODES]
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "vehicle",
                default_value="vehicle_0",
                description="Role name: this vehicle's namespace, and its name below /carla/.",
            ),
            DeclareLaunchArgument(
                "params_file",
                default_value=PathJoinSubstitution(
                    [FindPackageShare("flad_bringup"), "config", "vehicle.yaml"]
                ),
                description="ROS parameter file for every node of the vehicle.",
            ),
            DeclareLaunchArgument(
                "use_sim_time",
                default_value="true",
                choices=["true", "false"],
                description="Follow /clock (simulator) instead of the system clock.",
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
            *[_switch(spec) for spec in VEHICLE_NODES if spec.optional],
            SetParameter("use_sim_time", LaunchConfiguration("use_sim_time")),
            *[node for _, node in nodes],
            *[action for spec, node in nodes for action in _bring_to_active(spec, node)],
        ]
    )


def _node(spec: NodeSpec) -> LifecycleNode:
    return LifecycleNode(
        package=spec.package,
        executable=spec.executable,
        name=spec.executable,
        namespace=LaunchConfiguration("vehicle"),
        parameters=[LaunchConfiguration("params_file")],
        remappings=[(name, _filled(template)) for name, template in spec.remappings],
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        output="screen",
        condition=_condition(spec),
    )


def _switch(spec: NodeSpec) -> DeclareLaunchArgument:
    return DeclareLaunchArgument(
        spec.executable,
        default_value="false",
        choices=["true", "false"],
        description=f"Run the {spec.executable} too; its parameters stand in params_file.",
    )


def _condition(spec: NodeSpec) -> IfCondition | None:
    return IfCondition(LaunchConfiguration(spec.executable)) if spec.optional else None


def _filled(template: str) -> list:
    """A topology template as substitutions: {vehicle} is known only when it is launched."""
    before, *after = template.split("{vehicle}")
    parts = [before]
    for text in after:
        parts += [LaunchConfiguration("vehicle"), text]
    return [part for part in parts if part != ""]


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

# SPDX-License-Identifier: Apache-2.0
"""Start the world (or take one that runs), the bridge to it, and rviz where wanted.

ros2 launch flad_bringup simulation.launch.py town:=Grid rviz:=true
"""

import sys

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import (
    EnvironmentVariable,
    LaunchConfiguration,
    PathJoinSubstitution,
)
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from flad_bringup.topology import SIMULATION_NODES, SIMULATOR


def generate_launch_description() -> LaunchDescription:
    """World and bridge; the vehicles' nodes are in ``vehicle.launch.py``."""
    config = PathJoinSubstitution([FindPackageShare("flad_bringup"), "config"])
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "start_world",
                default_value="true",
                choices=["true", "false"],
                description="Start flad_sim here; false to use a CARLA 0.9.16 that runs.",
            ),
            DeclareLaunchArgument(
                "host", default_value="127.0.0.1", description="Address of the world."
            ),
            DeclareLaunchArgument("port", default_value="2000", description="Its RPC port."),
            DeclareLaunchArgument(
                "town", default_value="Grid", description="Town to load, or an .xodr file."
            ),
            DeclareLaunchArgument(
                "traffic", default_value="30", description="Vehicles that flad_sim moves."
            ),
            DeclareLaunchArgument(
                "walkers", default_value="20", description="Pedestrians that flad_sim moves."
            ),
            DeclareLaunchArgument("seed", default_value="1", description="Seed of flad_sim."),
            DeclareLaunchArgument(
                "config_file",
                default_value=PathJoinSubstitution([config, "bridge.yaml"]),
                description="The bridge's vehicles and their rigs.",
            ),
            DeclareLaunchArgument(
                "mode",
                default_value="realtime",
                choices=["realtime", "lockstep"],
                description="Paced to the wall clock, or every step waits for its controls.",
            ),
            DeclareLaunchArgument(
                "rviz",
                default_value="false",
                choices=["true", "false"],
                description="Show it in rviz2.",
            ),
            DeclareLaunchArgument(
                "dds_profile",
                default_value=EnvironmentVariable(
                    "FASTRTPS_DEFAULT_PROFILES_FILE",
                    default_value=PathJoinSubstitution([config, "fastdds.xml"]),
                ),
                description="Fast DDS profile of every node; what the environment names wins.",
            ),
            SetEnvironmentVariable(
                "FASTRTPS_DEFAULT_PROFILES_FILE", LaunchConfiguration("dds_profile")
            ),
            ExecuteProcess(
                cmd=[
                    sys.executable,
                    *SIMULATOR,
                    *("--host", LaunchConfiguration("host")),
                    *("--port", LaunchConfiguration("port")),
                    *("--town", LaunchConfiguration("town")),
                    *("--traffic", LaunchConfiguration("traffic")),
                    *("--walkers", LaunchConfiguration("walkers")),
                    *("--seed", LaunchConfiguration("seed")),
                ],
                condition=IfCondition(LaunchConfiguration("start_world")),
                output="screen",
            ),
            *[
                Node(
                    package=spec.package,
                    executable=spec.executable,
                    name=spec.executable,
                    arguments=[
                        *("--config", LaunchConfiguration("config_file")),
                        *("--host", LaunchConfiguration("host")),
                        *("--port", LaunchConfiguration("port")),
                        *("--town", LaunchConfiguration("town")),
                        *("--mode", LaunchConfiguration("mode")),
                    ],
                    output="screen",
                )
                for spec in SIMULATION_NODES
            ],
            Node(
                package="rviz2",
                executable="rviz2",
                arguments=["-d", PathJoinSubstitution([config, "flad.rviz"])],
                condition=IfCondition(LaunchConfiguration("rviz")),
                output="screen",
            ),
        ]
    )

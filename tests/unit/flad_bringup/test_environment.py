# SPDX-License-Identifier: Apache-2.0
"""A child finds SUMO, Fast DDS's profile and the messages; a user's own choice stays."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from flad_bringup.environment import child_environment, variables


def test_everything_that_is_named_exists(workspace):
    told = variables(workspace, {})

    assert Path(told["FASTRTPS_DEFAULT_PROFILES_FILE"]).is_file()
    assert (Path(told["SUMO_HOME"]) / "bin/netconvert").is_file()
    assert (Path(told["AMENT_PREFIX_PATH"].split(":")[0]) / "share/flad_msgs").is_dir()


def test_what_the_user_set_stays(workspace):
    mine = {"SUMO_HOME": "/opt/sumo", "FASTRTPS_DEFAULT_PROFILES_FILE": "/my.xml", "HOME": "/me"}

    assert mine.items() <= child_environment(workspace, mine).items()


def test_an_installed_ros_keeps_its_own_paths(workspace):
    ros = {"ROS_DISTRO": "humble", "AMENT_PREFIX_PATH": "/opt/ros/humble"}
    told = child_environment(workspace, ros)

    assert told["AMENT_PREFIX_PATH"] == "/opt/ros/humble"
    assert told["ROS_LOCALHOST_ONLY"] == "1"


def test_the_dds_profile_has_the_large_segment_and_keeps_udp(workspace):
    text = (workspace.config / "fastdds.xml").read_text()
    spaces = {"d": "http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles"}
    kinds = {
        t.findtext("d:type", namespaces=spaces): t.findtext("d:segment_size", namespaces=spaces)
        for t in ElementTree.fromstring(text).iterfind(".//d:transport_descriptor", spaces)
    }

    assert kinds == {"SHM": str(64 * 1024**2), "UDPv4": None}

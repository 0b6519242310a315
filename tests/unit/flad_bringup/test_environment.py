# SPDX-License-Identifier: Apache-2.0
"""A child finds SUMO, Fast DDS's profile and the messages; a user's own choice stays."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from flad_bringup.environment import child_environment, variables
from flad_bringup.federate.fleet import Fleet, FleetFiles
from flad_common.fast_dds import (
    PROFILE_VARIABLE,
    SHIPPED,
    UDP_ONLY,
    without_shared_memory,
)
from flad_common.supervision import Supervisor


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


SPACES = {"d": "http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles"}


def _transports(profile: ElementTree.Element) -> dict[str | None, str | None]:
    """Segment size of each kind."""
    return {
        t.findtext("d:type", namespaces=SPACES): t.findtext("d:segment_size", namespaces=SPACES)
        for t in profile.iterfind(".//d:transport_descriptor", SPACES)
    }


def _used(profile: ElementTree.Element) -> list[str | None]:
    return [t.text for t in profile.iterfind(".//d:userTransports/d:transport_id", SPACES)]


def _said(profile: ElementTree.Element) -> list[tuple[str, str, dict[str, str]]]:
    """Everything, in its order."""
    return [(part.tag, (part.text or "").strip(), part.attrib) for part in profile.iter()]


def test_the_dds_profile_has_the_large_segment_and_keeps_udp(workspace):
    profile = ElementTree.parse(workspace.config / SHIPPED).getroot()

    assert _transports(profile) == {"SHM": str(64 * 1024**2), "UDPv4": None}
    assert _used(profile) == ["large_shared_memory", "udp"]


def test_the_profile_without_shared_memory_is_the_same_in_everything_else(workspace):
    shipped = ElementTree.parse(workspace.config / SHIPPED).getroot()
    profile = ElementTree.parse(workspace.config / UDP_ONLY).getroot()

    assert _transports(profile) == {"UDPv4": None}
    assert _used(profile) == ["udp"]
    for descriptors in shipped.iterfind(".//d:transport_descriptors", SPACES):
        descriptors.remove(descriptors[0])
    for used in shipped.iterfind(".//d:userTransports", SPACES):
        used.remove(used[0])
    assert _said(shipped) == _said(profile) != []


def test_processes_of_a_federation_share_no_memory_unless_the_user_says_so(
    workspace, tmp_path, monkeypatch
):
    def told() -> str:
        fleet = Fleet(FleetFiles(folder=tmp_path), [], Supervisor(tmp_path / "logs"), 1)
        return fleet._environment[PROFILE_VARIABLE]

    shipped, udp_only = (str(workspace.config / name) for name in (SHIPPED, UDP_ONLY))
    for given in (None, shipped):
        monkeypatch.delenv(PROFILE_VARIABLE, raising=False)
        if given:
            monkeypatch.setenv(PROFILE_VARIABLE, given)
        assert told() == udp_only
    monkeypatch.setenv(PROFILE_VARIABLE, "/my.xml")
    assert told() == "/my.xml"


def test_an_edge_that_may_be_killed_shares_no_memory(workspace):
    shipped, udp_only = (str(workspace.config / name) for name in (SHIPPED, UDP_ONLY))

    assert without_shared_memory({PROFILE_VARIABLE: shipped}) == {PROFILE_VARIABLE: udp_only}
    for own in ({}, {PROFILE_VARIABLE: "/my.xml"}, {PROFILE_VARIABLE: "/elsewhere/fastdds.xml"}):
        assert without_shared_memory(own) == {}

# SPDX-License-Identifier: Apache-2.0
"""A child finds SUMO, Fast DDS's profile and the messages; a user's own choice stays."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from flad_bringup.environment import child_environment, variables
from flad_bringup.federate.fleet import Fleet, FleetFiles
from flad_bringup.udp_only import write_udp_only
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


def test_the_dds_profile_has_the_large_segment_and_keeps_udp(workspace):
    profile = ElementTree.parse(workspace.config / "fastdds.xml").getroot()

    assert _transports(profile) == {"SHM": str(64 * 1024**2), "UDPv4": None}
    assert _used(profile) == ["large_shared_memory", "udp"]


def test_the_benches_of_several_hosts_take_the_same_profile_without_shared_memory(
    workspace, tmp_path
):
    shipped = ElementTree.parse(workspace.config / "fastdds.xml").getroot()
    profile = ElementTree.parse(write_udp_only(workspace.config, tmp_path)).getroot()

    assert _transports(profile) == {"UDPv4": None}
    assert _used(profile) == ["udp"]
    writers = [
        [
            (part.tag, (part.text or "").strip())
            for part in one.iterfind("d:data_writer", SPACES)
            for part in part.iter()
        ]
        for one in (shipped, profile)
    ]
    assert writers[0] == writers[1] != []


def test_processes_of_a_federation_share_no_memory_unless_the_user_says_so(
    workspace, tmp_path, monkeypatch
):
    def told() -> str:
        fleet = Fleet(FleetFiles(folder=tmp_path), [], Supervisor(tmp_path / "logs"), 1)
        return fleet._environment["FASTRTPS_DEFAULT_PROFILES_FILE"]

    shipped = str(workspace.config / "fastdds.xml")
    for given in (None, shipped):
        monkeypatch.delenv("FASTRTPS_DEFAULT_PROFILES_FILE", raising=False)
        if given:
            monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", given)
        assert _used(ElementTree.parse(told()).getroot()) == ["udp"]
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", "/my.xml")
    assert told() == "/my.xml"


def test_a_profile_of_shared_memory_alone_is_refused(workspace, tmp_path):
    text = (workspace.config / "fastdds.xml").read_text()
    (tmp_path / "fastdds.xml").write_text(
        text.replace(
            "<transport_id>udp</transport_id>\n      </userTransports>", "</userTransports>"
        )
    )

    with pytest.raises(ValueError, match=r"no transport but shared memory \(large_shared_memory\)"):
        write_udp_only(tmp_path, tmp_path)

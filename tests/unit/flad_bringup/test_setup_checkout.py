# SPDX-License-Identifier: Apache-2.0
"""What set-up would do here, on a machine with ROS, and with the wheels' foreign paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from flad_bringup.setup import actions, checkout, cloud, wheels
from flad_bringup.setup.checkout import (
    REQUIREMENT_SETS,
    SetupConfig,
    message_folders,
    package_name,
    requirement_files,
    set_up,
    setup_steps,
)
from flad_bringup.setup.tool import run_tool
from flad_bringup.workspace import Workspace, find_workspace
from flad_common.error_codes import BUILD_FAILED, FladError


def names(paths):
    return [path.stem for path in paths]


def test_wheels_are_wanted_only_where_no_ros_is_installed(workspace):
    assert names(requirement_files(workspace, REQUIREMENT_SETS, None))[-1] == "ros"
    assert "ros" not in names(requirement_files(workspace, REQUIREMENT_SETS, "humble"))
    assert names(requirement_files(workspace, ["vehicle"], "humble")) == ["vehicle"]


def test_only_what_the_installed_ros_lacks_is_built(workspace, tmp_path: Path):
    index = tmp_path / "share/ament_index/resource_index/packages"
    index.mkdir(parents=True)
    (index / "tf2_msgs").touch()
    (index / "ackermann_msgs").touch()
    bare = {package_name(p) for p in message_folders(workspace, {})}

    with_ros = message_folders(workspace, {"AMENT_PREFIX_PATH": str(tmp_path)})

    assert {"flad_msgs", "tf2_msgs", "ackermann_msgs", "carla_msgs"} <= bare
    assert {package_name(p) for p in with_ros} == bare - {"tf2_msgs", "ackermann_msgs"}


def test_our_own_earlier_build_does_not_count_as_the_systems(workspace):
    ours = {"AMENT_PREFIX_PATH": str(workspace.install)}

    assert message_folders(workspace, ours) == message_folders(workspace, {})


def test_a_vehicle_needs_no_towns(workspace):
    vehicle = setup_steps(workspace, SetupConfig(sets=("vehicle",)), {})
    everything = setup_steps(workspace, SetupConfig(), {})

    assert [step.name for step in vehicle] == ["packages", "paths", "messages"]
    assert [step.name for step in everything] == [
        "packages",
        "paths",
        "messages",
        "towns",
        "kernels",
    ]


def test_another_ros_is_another_setup(workspace):
    keys = [
        {step.name: step.key for step in setup_steps(workspace, SetupConfig(), environment)}
        for environment in ({}, {"ROS_DISTRO": "humble"})
    ]

    assert all(keys[0][name] != keys[1][name] for name in ("packages", "messages"))


def test_foreign_paths_in_the_wheels_cmake_files_are_ours_afterwards(tmp_path: Path):
    file = tmp_path / "std_msgs/cmake/export.cmake"
    file.parent.mkdir(parents=True)
    file.write_text(
        'set(INC "/opt/python/cp311-cp311/include/python3.11;'
        '/opt/python/cp311-cp311/lib/python3.11/site-packages/numpy/_core/include;/opt/other")\n'
    )
    (tmp_path / "clean.cmake").write_text("set(A 1)\n")

    changed = wheels.patch_cmake(tmp_path, python_include="/my/python", numpy_include="/my/numpy")

    assert changed == 1
    assert file.read_text() == 'set(INC "/my/python;/my/numpy;/opt/other")\n'
    assert wheels.patch_cmake(tmp_path, python_include="/x", numpy_include="/y") == 0


def test_libraries_are_linked_and_dead_links_removed(tmp_path: Path):
    workspace = Workspace(root=tmp_path)
    for folder in (workspace.venv / "lib", workspace.install / "lib"):
        folder.mkdir(parents=True)
    (workspace.install / "lib/libnew.so").write_text("new")
    (workspace.venv / "lib/libold.so").symlink_to("../../install/lib/libold.so")
    (workspace.venv / "lib/libfastrtps.so").write_text("the wheels' own")

    wheels.link_libraries(workspace)

    found = {p.name: p.read_text() for p in (workspace.venv / "lib").iterdir()}
    assert found == {"libnew.so": "new", "libfastrtps.so": "the wheels' own"}


def test_a_tool_that_fails_is_quoted_and_its_log_named(tmp_path: Path):
    log = tmp_path / "logs/tool.log"
    with pytest.raises(FladError, match=r"(?s)BUILD_FAILED: sh ended with 4.*no space left") as e:
        run_tool(
            ["sh", "-c", "echo cmake: no space left; exit 4"],
            log_file=log,
            failure=BUILD_FAILED,
            environment={},
            folder=tmp_path,
        )
    assert str(log) in str(e.value)
    assert "no space left" in log.read_text()

    with pytest.raises(FladError, match=r"TOOL_MISSING: colcon-that-is-not cannot be started"):
        run_tool(
            ["colcon-that-is-not"],
            log_file=log,
            failure=BUILD_FAILED,
            environment={"PATH": "/usr/bin"},
            folder=tmp_path,
        )


def test_outside_a_checkout_is_said(tmp_path: Path):
    with pytest.raises(ValueError, match="is not inside a checkout of FLAD"):
        find_workspace(tmp_path / "a/b.py")


@pytest.fixture
def commands(monkeypatch):
    """The commands that set-up would run, instead of running them."""
    started = []
    monkeypatch.setattr(actions, "run_tool", lambda command, **_: started.append(command))
    return started


def test_an_installed_ros_keeps_the_numpy_that_its_messages_need(workspace, commands):
    ros = {"ROS_DISTRO": "humble"}
    actions.install(workspace, [workspace.root / "requirements/vehicle.txt"], ros)

    (pip,) = commands  # and no wheels are patched
    constraints = Path(pip[pip.index("-c") + 1])
    assert "numpy<2" in constraints.read_text()


def test_with_an_installed_ros_everything_is_built_by_our_python(workspace, commands, monkeypatch):
    monkeypatch.setattr(actions.shutil, "which", lambda name: f"/usr/bin/{name}")
    messages = [workspace.root / "src/flad_msgs"]
    actions.build(workspace, messages, {"PATH": "/usr/bin"}, "humble")

    ((python, colcon, *rest),) = commands
    assert (python, colcon) == (str(workspace.python), "/usr/bin/colcon")
    assert {str(folder) for folder in workspace.source_folders()} < set(rest)
    assert "--symlink-install" in rest


def test_without_colcon_beside_an_installed_ros_the_package_is_named(workspace, monkeypatch):
    monkeypatch.setattr(actions.shutil, "which", lambda name: None)

    with pytest.raises(FladError, match="apt install python3-colcon-common-extensions"):
        actions.build(workspace, [], {}, "humble")


def test_commands_that_need_different_sets_do_not_undo_each_other(tmp_path: Path, monkeypatch):
    here = Workspace(root=tmp_path)
    here.venv.mkdir()
    installed: list[set[str]] = []
    monkeypatch.setattr(checkout, "setup_steps", lambda _, config, __: [config])
    monkeypatch.setattr(
        checkout, "run_steps", lambda steps, *_, **__: installed.append({*steps[0].sets}) or []
    )

    set_up(here, SetupConfig(sets=("train",), add=True))
    set_up(here, SetupConfig(sets=("vehicle",), add=True))
    assert installed[-1] == {"train", "vehicle"}

    set_up(here, SetupConfig(sets=("vehicle",)))
    assert installed[-1] == {"vehicle"}


def test_the_clouds_environment_is_its_own_and_is_made_once(tmp_path: Path, monkeypatch):
    calls = []

    def pretended(command, **_):
        calls.append(list(command))
        if "venv" in command:
            python = Path(command[-1]) / "bin/python"
            python.parent.mkdir(parents=True)
            python.touch()

    monkeypatch.setattr(cloud, "run_tool", pretended)
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/cloud.txt").write_text("flwr\n")
    there = Workspace(root=tmp_path)

    first = cloud.set_up_cloud(there, environment={"PYTHONPATH": "ours"}, tell=calls.append)
    again = cloud.set_up_cloud(there, environment={}, tell=calls.append)

    assert [step.skipped for step in first + again] == [False, True]
    pip = next(call for call in calls if "pip" in call)
    assert pip[0] == str(cloud.cloud_python(there))
    assert not cloud.cloud_python(there).is_relative_to(there.venv)

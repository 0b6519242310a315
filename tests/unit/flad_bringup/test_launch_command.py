# SPDX-License-Identifier: Apache-2.0
"""What ./flad launch would start."""

from __future__ import annotations

import argparse

import pytest

from flad_bringup.commands import launch
from flad_carla.bridge_loop import BridgeLoopConfig
from flad_common.config import from_yaml
from flad_perception.weights_header import model_hash_of


@pytest.fixture
def started(workspace, tmp_path):
    def commands(*words):
        parser = argparse.ArgumentParser()
        launch.add_arguments(parser)
        args = parser.parse_args(words)
        args.workspace = argparse.Namespace(config=workspace.config, runs=tmp_path)
        return {name: " ".join(command) for name, command, _ in launch.commands(args)}

    return commands


def test_without_a_model_the_expert_drives_and_there_is_no_edge(started):
    assert set(started()) == {"world", "bridge", "vehicle_0_planner"}
    assert "vehicle_0_encoder" in started("--encoder", "small")


def test_with_an_adllm_there_are_an_edge_encoders_and_drivers_and_nobody_else_plans(
    started, tmp_path
):
    found = started("--adllm", "some.safetensors", "--adm", "small_one.safetensors")
    assert set(found) == {
        *("world", "bridge", "edge"),
        *("vehicle_0_planner", "vehicle_0_encoder", "vehicle_0_driver"),
    }
    made_by = f"encoder_hash:='{model_hash_of('small')}'"
    assert "model:=some.safetensors" in found["edge"] and made_by in found["edge"]
    driver = found["vehicle_0_driver"]
    assert "adm:=small_one.safetensors" in driver and f"adm_{made_by}" in driver
    assert "-r edge/requests:=/edge/requests" in driver

    config_file = tmp_path / "launch" / "bridge.yaml"
    assert str(config_file) in found["bridge"]
    (ego,) = from_yaml(BridgeLoopConfig, config_file).egos
    assert ego.awaits == ("encoder", "driver")
    assert ego.driver == "none" and ego.rig.name == "encoder.yaml" and ego.rig.is_file()
    assert "rgb_focus" in found["vehicle_0_encoder"]


def test_in_lockstep_nobody_waits_for_what_never_comes(started, workspace, tmp_path):
    """The planner awaits plans when the driver gives them; the bridge awaits who is started."""
    found = started("--mode", "lockstep", "--adllm", "some.safetensors")
    assert "plan_period_s:=0.2" in found["vehicle_0_planner"]
    text = (workspace.config / "vehicle.yaml").read_text()
    slower = tmp_path / "slower.yaml"
    slower.write_text(text.replace("frame_period_s: 0.2", "frame_period_s: 0.4"))
    found = started("--adllm", "some.safetensors", "--params-file", str(slower))
    assert "plan_period_s:=0.4" in found["vehicle_0_planner"]

    assert "plan_period_s" not in started("--mode", "lockstep")["vehicle_0_planner"]
    started("--mode", "lockstep", "--encoder", "small")
    (ego,) = from_yaml(BridgeLoopConfig, tmp_path / "launch" / "bridge.yaml").egos
    assert ego.awaits == ("encoder",) and ego.driver == "expert" and ego.rig.is_file()

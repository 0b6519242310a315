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
    assert ego.driver == "none" and ego.rig.name == "encoder.yaml" and ego.rig.is_file()
    assert "rgb_focus" in found["vehicle_0_encoder"]

# SPDX-License-Identifier: Apache-2.0
"""``./flad federate`` with real processes over DDS: one is killed, the others end the round."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file
from tiny_training import TINY, TRAIN, make_packed

from flad_bringup.environment import child_environment
from flad_common.config import to_yaml
from flad_perception.model.encoder import build_encoder
from flad_perception.weights import load_encoder, save_encoder

pytestmark = pytest.mark.timeout(600)  # seven processes begin, on two busy cores perhaps
_DEADLINE_S = 480.0
_ROUND_S = 300.0
_END_S = 20.0
_STEPS = 30


@pytest.fixture(scope="module")
def federated(workspace, tmp_path_factory):
    """A round of three vehicles; the second is killed on the way, another one comes late."""
    folder = tmp_path_factory.mktemp("federate")
    weights, train = folder / "tiny.safetensors", folder / "train.yaml"
    save_encoder(weights, build_encoder(TINY, seed=1), TINY)
    everything = dataclasses.replace(TRAIN, holdout_weathers=(), holdout_towns=())
    train.write_text(to_yaml(everything))
    figures, out = folder / "figures.json", folder / "run"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "flad_bringup", "federate"),
            *("--data", str(make_packed(folder))),
            *("--weights", str(weights)),
            *("--train", str(train)),
            *("--vehicles", "3", "--level", "0", "--rounds", "1"),
            *("--steps", str(_STEPS), "--micro-batch", "1", "--micro-batches", "4"),
            *("--clip-frames", "3", "--gap-frames", "0"),
            *("--lease-s", "5.0"),  # a busy machine is no dead vehicle
            *("--deadline-s", str(_ROUND_S)),
            *("--cut-every", "3", "--kill", "vehicle_1@12", "--kill", "edge@20"),
            *("--out", str(out), "--json", str(figures)),
        ],
        cwd=workspace.root,
        env=child_environment(workspace, OMP_NUM_THREADS="1", PYTHONFAULTHANDLER="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said, _ = process.communicate(timeout=_DEADLINE_S)
    except subprocess.TimeoutExpired:
        said = f"It did not end in {_DEADLINE_S:g} s.\n{_last_words(process)}"
    assert process.returncode == 0, f"{said}\n{_logs(out)}"
    return json.loads(figures.read_text()), out


def _last_words(process: subprocess.Popen[str]) -> str:
    """End all of them; each writes where its threads stood, the children into their logs."""
    for one in [*psutil.Process(process.pid).children(recursive=True), process]:
        one.send_signal(signal.SIGABRT)
    try:
        return process.communicate(timeout=_END_S)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[0]


def _logs(out: Path) -> str:
    return "\n".join(f"{p}:\n{p.read_text()[-8000:]}" for p in sorted(out.glob("logs/*.log")))


def test_the_round_ends_with_those_who_are_left_and_says_so(federated):
    figures, _ = federated
    [one] = figures["rounds"]
    [client] = one["report"]["clients"].values()

    assert one["completed"]
    assert client["vehicles"] == ["vehicle_0", "vehicle_2"]
    assert [r["gone"] for r in client["recoveries"]][:1] == [["vehicle_1"]]
    assert all(r["lost_steps"] <= 6 for r in client["recoveries"])
    assert one["num_samples"] == _STEPS * 4
    assert [h["who"] for h in figures["happened"]] == ["vehicle_1", "edge"]


def test_the_result_drives_and_is_the_edges_model(federated):
    figures, out = federated
    loaded = load_encoder(out / "encoder.safetensors")
    kept = load_file(figures["rounds"][0]["model_file"])
    begun = build_encoder(TINY, seed=1).state_dict()

    assert loaded.identity.hash == figures["encoder_hash"]
    for name, tensor in loaded.model.state_dict().items():
        assert torch.isfinite(tensor).all()
        assert torch.equal(tensor, kept[name])
    assert any(not torch.equal(kept[name], begun[name]) for name in begun)


def test_every_step_was_taken_by_all_and_clipped_by_the_same_number(federated):
    figures, out = federated
    [client] = figures["rounds"][0]["report"]["clients"].values()
    norms: dict[int, dict[int, float]] = {}
    for vehicle in client["vehicles"]:
        for line in map(json.loads, (out / vehicle / "steps.jsonl").read_text().splitlines()):
            taken = norms.setdefault(line["step"], {})
            before = taken.setdefault(line["epoch"], line["gradient_norm"])
            assert before == line["gradient_norm"]

    assert sorted(norms) == list(range(_STEPS))
    assert max(epoch for taken in norms.values() for epoch in taken) > 1

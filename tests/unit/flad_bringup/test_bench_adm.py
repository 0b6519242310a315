# SPDX-License-Identifier: Apache-2.0
"""A small model is measured beside a large one: the same requests, and a ratio that says so."""

from __future__ import annotations

import argparse
from dataclasses import replace

import pytest
from tiny_adllm import SHORT, tiny_model

from flad_bringup.bench import adm
from flad_edge.adllm.weights import save_adllm


def _args(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    adm.add_arguments(parser)
    return parser.parse_args(arguments)


def test_both_models_are_asked_and_the_figures_go_together(tmp_path):
    model = tmp_path / "tiny.safetensors"
    save_adllm(model, tiny_model(SHORT))
    rows = adm.measure(_args("--adllm", str(model), "--adm", str(model), "--rounds", "2"))
    by_name = {row.name: row for row in rows}
    mean = by_name["adm_request_mean"]
    assert mean.value > 0.0
    assert by_name["adm_request_of_adllm"].value == pytest.approx(mean.ratio)


def test_the_ratio_is_of_means_and_the_promise_is_four_tenths():
    rows = {row.name: row for row in adm.rows([0.001, 0.009], [0.001, 0.003])}
    assert rows["adm_request_of_adllm"].value == pytest.approx(0.4)
    assert rows["adm_request_p50"].value == pytest.approx(2.0)
    assert rows["adm_request_p50"].baseline_value == pytest.approx(5.0)
    late = {row.name: row for row in adm.rows([0.005], [0.003])}
    assert late["adm_request_of_adllm"].holds is False


def test_models_with_other_histories_are_not_compared(tmp_path):
    history = replace(SHORT.history, max_frames=SHORT.history.max_frames + 2)
    for name, config in (("a", SHORT), ("b", replace(SHORT, history=history))):
        save_adllm(tmp_path / f"{name}.safetensors", tiny_model(config))
    names = ("--adllm", str(tmp_path / "a.safetensors"), "--adm", str(tmp_path / "b.safetensors"))
    with pytest.raises(ValueError, match="keep other histories"):
        adm.measure(_args(*names))

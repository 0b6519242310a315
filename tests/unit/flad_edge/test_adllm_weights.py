# SPDX-License-Identifier: Apache-2.0
"""Files, checkpoints and adapters: the model that comes out is the one that went in."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tiny_adllm import CONFIG, TEXTS, tiny_model, tiny_tokenizer, tiny_tokens

from flad_edge.adllm.clip import ClipBatch
from flad_edge.adllm.llama import new_llama
from flad_edge.adllm.lora import AdapterConfig, add_adapters, merge_adapters
from flad_edge.adllm.model import build_adllm
from flad_edge.adllm.weights import load_adllm, save_adllm

# isort: split
from transformers import LlamaForCausalLM

CLIP = ClipBatch(
    instructions=(TEXTS[0], TEXTS[1]),
    tokens=tiny_tokens(2, 3),
    num_frames=(3, 2),
    notices=({0: TEXTS[5]}, {}),
)


def answers(model):
    with torch.no_grad():
        return model(CLIP).waypoints_m


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture
def file(tmp_path: Path, model) -> Path:
    save_adllm(tmp_path / "test.safetensors", model, {"trained_by": "a test"})
    return tmp_path / "test.safetensors"


def rewrite(file: Path, change) -> None:
    with safe_open(file, framework="pt") as opened:
        header = opened.metadata()
        state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    change(state, header)
    save_file(state, file, metadata=header)


def test_what_is_saved_is_loaded(file, model):
    found = load_adllm(file)

    assert torch.equal(answers(found.model), answers(model))
    assert found.model.config == model.config
    assert found.model.tokenizer.text == model.tokenizer.text
    assert (found.identity.name, found.identity.contract_version) == ("test", 1)
    assert list(file.parent.iterdir()) == [file]
    again = save_adllm(file.with_name("again.safetensors"), found.model)
    assert again == found.identity


def test_the_hash_tells_weights_sizes_and_tokenizers_apart(tmp_path: Path, model):
    other_text = replace(CONFIG.text, max_notice_tokens=32)
    models = [model, tiny_model(seed=2), tiny_model(text=other_text)]
    hashes = [save_adllm(tmp_path / "m", m).hash for m in models]

    assert len({*hashes}) == 3
    assert all(len(h) == 16 for h in hashes)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda s, h: s.pop("frame_reader.queries"), "frame_reader.queries is missing"),
        (lambda s, h: s.update(extra=torch.zeros(1)), "extra is unknown"),
        (
            lambda s, h: s.update({"frame_reader.queries": torch.zeros(1, 3, 16)}),
            r"frame_reader.queries is torch.float32 \[1, 3, 16\], expected .* \[1, 4, 16\]",
        ),
        (lambda s, h: s["frame_reader.queries"].fill_(torch.nan), "queries is not finite"),
        (lambda s, h: s["frame_reader.queries"].add_(1e-3), "its header says hash"),
        (lambda s, h: h.pop("flad_adllm_tokenizer"), "lacks flad_adllm_tokenizer"),
        (lambda s, h: h.update(flad_adllm_tokenizer="x"), "this is no tokenizer"),
        (lambda s, h: h.update(flad_adllm_config="{}"), "its header does not fit"),
        (lambda s, h: h.update(flad_contract_version="2"), "reads tokens of contract 2"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_refused_by_name(file, change, complaint):
    rewrite(file, change)

    with pytest.raises(ValueError, match=complaint):
        load_adllm(file)


def test_no_file_and_half_a_file_are_told_apart(file):
    with pytest.raises(FileNotFoundError, match="expected weights of an AD-LLM"):
        load_adllm(file.with_name("none"))
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(ValueError, match="is damaged or no safetensors file"):
        load_adllm(file)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A Llama as others save it: the whole model, in the library's own format."""
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(9)
    LlamaForCausalLM(new_llama(CONFIG).config).save_pretrained(folder)
    return folder


def test_a_local_checkpoint_brings_the_language_models_weights(checkpoint):
    model = build_adllm(CONFIG, tiny_tokenizer(), checkpoint=checkpoint)

    wanted = LlamaForCausalLM.from_pretrained(checkpoint).model.state_dict()
    assert all(torch.equal(v, wanted[k]) for k, v in model.llm.state_dict().items())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"layers": 3}, "num_hidden_layers is 2, not 3"),
        ({"rope_theta": 5e5}, "rope_theta is 10000.0, not 500000.0"),
        ({"heads": 2}, "num_attention_heads is 4, not 2"),
    ],
)
def test_a_checkpoint_of_other_sizes_is_refused(checkpoint, change, complaint):
    config = replace(CONFIG, llm=replace(CONFIG.llm, **change))

    with pytest.raises(ValueError, match=complaint):
        build_adllm(config, tiny_tokenizer(), checkpoint=checkpoint)


def test_a_name_on_the_network_is_no_checkpoint(tmp_path):
    with pytest.raises(ValueError, match=r"is no checkpoint: it has no config\.json"):
        build_adllm(CONFIG, tiny_tokenizer(), checkpoint=tmp_path / "some-org/llama")


def test_bfloat16_is_near_float32_and_drives():
    exact, coarse = tiny_model(), tiny_model(llm=replace(CONFIG.llm, dtype="bfloat16"))
    steps = [
        m.step(m.start([TEXTS[0]]), CLIP.tokens[:1, 0], [None]).waypoints_m for m in (exact, coarse)
    ]

    assert coarse.llm.dtype is torch.bfloat16
    assert steps[1].dtype is torch.float32
    torch.testing.assert_close(steps[1], steps[0], rtol=0.1, atol=0.1)


def train_a_little(model) -> None:
    torch.manual_seed(3)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1.0)
    for _ in range(3):
        optimizer.zero_grad()
        (model.train()(CLIP).waypoints_m - 5.0).abs().mean().backward()
        optimizer.step()
    model.eval()


def test_of_a_model_with_adapters_only_they_train():
    model = tiny_model()
    before = answers(model)
    add_adapters(model, AdapterConfig())
    torch.testing.assert_close(answers(model), before)  # B is zero at first
    start = {k: v.clone() for k, v in model.state_dict().items()}
    train_a_little(model)

    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, start[k])}
    adapters = {k for k in start if "lora_" in k}
    assert changed == adapters
    assert len(adapters) == CONFIG.llm.layers * 2 * 2  # q and v, A and B
    assert {k.split(".")[-4] for k in adapters} == {"q_proj", "v_proj"}
    assert {len(v) for k, v in start.items() if "lora_A" in k} == {16}
    assert (answers(model) - before).abs().max() > 1e-2


def test_merged_adapters_say_what_they_said_before(tmp_path: Path):
    model = tiny_model()
    names = set(model.state_dict())
    add_adapters(model, AdapterConfig(rank=4, alpha=8.0))
    train_a_little(model)
    tuned = answers(model)
    with pytest.raises(ValueError, match="merge them before it is saved"):
        save_adllm(tmp_path / "m", model)
    with pytest.raises(ValueError, match="has adapters already"):
        add_adapters(model, AdapterConfig())

    merge_adapters(model)

    torch.testing.assert_close(answers(model), tuned, rtol=0, atol=1e-4)
    assert set(model.state_dict()) == names
    assert all(p.requires_grad for p in model.parameters())
    save_adllm(tmp_path / "m", model)
    torch.testing.assert_close(answers(load_adllm(tmp_path / "m").model), answers(model))
    with pytest.raises(ValueError, match="no adapters to merge"):
        merge_adapters(model)


def test_adapters_drive_as_they_read_clips():
    model = tiny_model()
    add_adapters(model, AdapterConfig())
    train_a_little(model)

    (history,) = model.start([TEXTS[0]])
    steps = [
        model.step([history], CLIP.tokens[:1, f], [CLIP.notices[0].get(f)]).waypoints_m
        for f in range(3)
    ]
    torch.testing.assert_close(torch.cat(steps), answers(model)[0], rtol=0, atol=1e-4)

# SPDX-License-Identifier: Apache-2.0
"""The history rule, the rows of a clip, the losses, and the configurations that ship."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_adllm import CONFIG, TEXTS, tiny_model, tiny_tokens

from flad_common.config import from_mapping, to_mapping
from flad_edge.adllm.clip import ClipBatch, plan_rows
from flad_edge.adllm.config import AdLlmConfig, load_adllm_config
from flad_edge.adllm.frame_reader import as_batch, pad_ids
from flad_edge.adllm.history import HistoryConfig
from flad_edge.adllm.losses import completed_cross_entropy, driving_loss, waypoint_l1
from flad_edge.adllm.model import build_adllm
from flad_edge.adllm.tokenizer import train_tokenizer
from flad_perception.config import load_encoder_config

RULES = st.integers(1, 12).flatmap(
    lambda most: st.builds(
        HistoryConfig, max_frames=st.just(most), dropped_frames=st.integers(1, most)
    )
)


@given(rule=RULES, num_frames=st.integers(1, 60))
def test_the_rule_is_that_of_a_list_which_drops_its_oldest_when_full(rule, num_frames):
    held: list[int] = []
    for frame in range(num_frames):
        if len(held) == rule.max_frames:
            held = held[rule.dropped_frames :]
        held.append(frame)
        assert rule.first_seen(frame) == held[0]
        assert len(held) <= rule.max_frames


@given(rule=RULES, num_frames=st.integers(1, 60))
def test_readings_answer_every_frame_once_with_what_it_sees(rule, num_frames):
    answered = []
    for reading in rule.readings(num_frames):
        assert reading.stop - reading.first <= rule.max_frames
        for frame in range(reading.answers_from, reading.stop):
            assert rule.first_seen(frame) == reading.first
            answered.append(frame)
    assert answered == list(range(num_frames))


def test_rows_have_the_instruction_then_frames_with_notices_after_them():
    plan = plan_rows(
        instructions=[(7, 8), (9,)],
        num_frames=[4, 1],
        notices=[{0: (5,), 2: (6, 6)}, {}],
        num_queries=2,
        history=HistoryConfig(max_frames=3, dropped_frames=1),
    )

    assert plan.text_ids == (7, 8, 5, 6, 6, 9)
    # Six texts, then the first clip's frames at 6, 8, 10, 12 and the second clip's at 14.
    assert plan.sources == (
        (0, 1, 6, 7, 2, 8, 9, 10, 11, 3, 4),
        (0, 1, 8, 9, 10, 11, 3, 4, 12, 13),
        (5, 14, 15),
    )
    assert list(zip(plan.answer_rows, plan.answer_columns, strict=True)) == [
        *((0, 3), (0, 6), (0, 8), (1, 9)),
        (2, 2),
    ]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"num_frames": (3, 4)}, "num_frames must be in 1..3"),
        ({"num_frames": (3,)}, "the same number of each"),
        ({"tokens": torch.zeros(2, 3, 6)}, r"\[B, F, K, D\]"),
        ({"notices": ({}, {2: TEXTS[5]})}, "notices after frames"),
    ],
)
def test_clips_that_do_not_hold_together_are_refused(change, complaint):
    good = {
        "instructions": (TEXTS[0], TEXTS[1]),
        "tokens": tiny_tokens(2, 3),
        "num_frames": (3, 2),
        "notices": ({}, {1: TEXTS[5]}),
    }
    ClipBatch(**good)
    with pytest.raises(ValueError, match=complaint):
        ClipBatch(**(good | change))


def test_clips_in_a_batch_do_not_see_each_other_or_what_is_beyond_their_frames():
    model = tiny_model()
    tokens = tiny_tokens(2, 5)
    tokens[1, 3:] = torch.nan
    batch = ClipBatch(
        instructions=(TEXTS[2], TEXTS[1]),
        tokens=tokens,
        num_frames=(5, 3),
        notices=({1: TEXTS[5]}, {}),
    )
    with torch.no_grad():
        out = model(batch)
        alone = model(
            ClipBatch(
                instructions=(TEXTS[1],), tokens=tokens[1:, :3], num_frames=(3,), notices=({},)
            )
        )

    torch.testing.assert_close(out.waypoints_m[1, :3], alone.waypoints_m[0], rtol=0, atol=1e-4)
    assert out.waypoints_m.shape == (2, 5, 5, 2)
    assert out.completed_logits.shape == (2, 5, 2)
    assert bool((out.waypoints_m[1, 3:] == 0).all())
    assert batch.frame_mask.tolist() == [[True] * 5, [True] * 3 + [False] * 2]


def test_the_losses_are_torchs_own_and_have_the_right_gradient():
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    waypoints, target, logits = draw(3, 4, 5, 2), draw(3, 4, 5, 2), draw(3, 4, 2)
    completed = draw(3, 4) > 0.0
    valid = torch.arange(4) < torch.tensor([4, 1, 2])[:, None]
    target[~valid] = torch.nan

    loss = driving_loss(waypoints, logits, target, completed, valid)
    l1 = torch.nn.functional.l1_loss(waypoints[valid], target[valid])
    ce = torch.nn.functional.cross_entropy(logits[valid], completed[valid].long())
    torch.testing.assert_close(loss.waypoints_m, l1)
    torch.testing.assert_close(loss.completed, ce)
    torch.testing.assert_close(loss.total, l1 + 0.2 * ce)
    assert torch.autograd.gradcheck(waypoint_l1, (waypoints[valid].requires_grad_(), target[valid]))
    assert torch.autograd.gradcheck(
        completed_cross_entropy, (logits[valid].requires_grad_(), completed[valid])
    )
    huge = torch.tensor([[1e4, -1e4]])
    assert completed_cross_entropy(huge, torch.tensor([True])).item() == pytest.approx(2e4)
    with pytest.raises(ValueError, match="no frame of the batch is valid"):
        driving_loss(waypoints, logits, target, completed, torch.zeros_like(valid))


def test_every_weight_learns_except_the_text_side_of_the_last_reading_layer():
    model = tiny_model().train()
    clip = ClipBatch(
        instructions=(TEXTS[0],), tokens=tiny_tokens(1, 4), num_frames=(4,), notices=({},)
    )
    out = model(clip)
    driving_loss(
        out.waypoints_m,
        out.completed_logits,
        torch.ones_like(out.waypoints_m),
        torch.zeros(1, 4, dtype=torch.bool),
        clip.frame_mask,
    ).total.backward()

    idle = {
        name
        for name, p in model.named_parameters()
        if p.grad is None or not bool((p.grad != 0).any())
    }
    last = "frame_reader.qformer.encoder.layer.1."
    assert idle
    assert all(name.startswith((f"{last}intermediate.", f"{last}output.")) for name in idle)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_frames_are_read_as_the_librarys_whole_qformer_reads_them(layers):
    config = replace(CONFIG, qformer=replace(CONFIG.qformer, layers=layers))
    reader = build_adllm(config, train_tokenizer(TEXTS, config.text)).eval().frame_reader
    tokens = tiny_tokens(2, 2)
    texts = ((4, 5, 6), (7,))
    ids, is_text = pad_ids(texts, torch.device("cpu"))
    with torch.no_grad():
        clips = reader.read_instructions(ids, is_text)
        read = reader(tokens.flatten(0, 1), clips.repeat(torch.tensor([2, 2])))
        alone = [reader.read_instructions(*pad_ids([text], ids.device)) for text in texts]
        first_frames = reader(tokens[:, 0], as_batch(alone))
        seen = torch.cat([is_text.new_ones(2, reader.queries.shape[1]), is_text], dim=1)
        whole = [
            reader.qformer(
                input_ids=ids,
                attention_mask=seen.long(),
                query_embeds=reader.queries.expand(2, -1, -1),
                encoder_hidden_states=reader.norm(tokens[:, frame]) + reader.places,
            ).last_hidden_state[:, : reader.queries.shape[1]]
            for frame in range(2)
        ]
        wanted = reader.project(torch.stack(whole, dim=1))

    torch.testing.assert_close(read.unflatten(0, (2, 2)), wanted, rtol=0.0, atol=1e-6)
    torch.testing.assert_close(first_frames, wanted[:, 0], rtol=0.0, atol=1e-6)


def test_it_learns_to_tell_two_instructions_apart():
    torch.manual_seed(0)
    model = build_adllm(CONFIG, train_tokenizer(TEXTS, CONFIG.text), seed=2)
    tokens = tiny_tokens(1, 3).expand(2, -1, -1, -1)
    clip = ClipBatch(
        instructions=(TEXTS[0], TEXTS[1]), tokens=tokens, num_frames=(3, 3), notices=({}, {})
    )
    target = torch.zeros(2, 3, 5, 2)
    target[0, ..., 1], target[1, ..., 1] = 3.0, -3.0
    completed = torch.tensor([[False, False, True]] * 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        out = model(clip)
        loss = driving_loss(
            out.waypoints_m, out.completed_logits, target, completed, clip.frame_mask
        )
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()

    with torch.no_grad():
        out = model.eval()(clip)
    sideways_m = out.waypoints_m[..., 1]
    assert float(sideways_m[0].min()) > 2.0
    assert float(sideways_m[1].max()) < -2.0


@pytest.mark.parametrize("name", ["tiny", "3b", "7b"])
def test_the_configurations_that_ship_fit_the_encoder_they_name(name):
    config = load_adllm_config(name)
    encoder = load_encoder_config(config.encoder)

    assert config.name == name
    assert (config.num_tokens, config.token_dim) == (encoder.num_tokens, encoder.embed_dim)
    assert (config.num_waypoints, config.waypoint_step_s) == (5, 0.5)
    assert config.history == HistoryConfig(frame_interval_s=0.2, max_frames=40, dropped_frames=20)
    assert from_mapping(AdLlmConfig, to_mapping(config)) == config


def test_tiny_has_two_to_ten_million_parameters():
    config = load_adllm_config("tiny")
    model = build_adllm(config, train_tokenizer(TEXTS, config.text))

    assert 2e6 < sum(p.numel() for p in model.parameters()) < 10e6


def test_the_seed_decides_the_weights_and_nothing_outside_does():
    tokenizer = train_tokenizer(TEXTS, CONFIG.text)
    torch.manual_seed(5)
    first, drawn = build_adllm(CONFIG, tokenizer, seed=1), torch.rand(1)
    torch.manual_seed(5)
    again, other = torch.rand(1), build_adllm(CONFIG, tokenizer, seed=2)

    same = build_adllm(CONFIG, tokenizer, seed=1).state_dict()
    assert all(torch.equal(same[k], v) for k, v in first.state_dict().items())
    assert not torch.equal(first.frame_reader.queries, other.frame_reader.queries)
    assert torch.equal(drawn, again)


@pytest.mark.parametrize(
    ("part", "change", "complaint"),
    [
        ("llm", {"heads": 3}, "multiple of 2 x heads"),
        ("llm", {"kv_heads": 3}, "multiple of kv_heads"),
        ("qformer", {"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
        ("qformer", {"num_queries": 0}, "num_queries must be at least 1"),
        ("text", {"vocab_size": 10}, "vocab_size must be at least 64"),
        ("history", {"dropped_frames": 41}, r"dropped_frames must be in 1..max_frames \(40\)"),
        ("history", {"dropped_frames": 0}, "dropped_frames"),
    ],
)
def test_sizes_that_cannot_be_are_refused(part, change, complaint):
    with pytest.raises(ValueError, match=complaint):
        replace(getattr(CONFIG, part), **change)


def test_an_unknown_configuration_is_named_with_those_that_exist():
    with pytest.raises(ValueError, match=r"no AD-LLM '13b'; known are 3b, 7b, adm, tiny"):
        load_adllm_config("13b")

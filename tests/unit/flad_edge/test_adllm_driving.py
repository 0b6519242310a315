# SPDX-License-Identifier: Apache-2.0
"""A frame at a time says what the whole clip says, for any mix of vehicles."""

from __future__ import annotations

import pytest
import torch
from tiny_adllm import CONFIG, SHORT, TEXTS, tiny_model, tiny_tokens

from flad_edge.adllm import driving
from flad_edge.adllm.clip import ClipBatch
from flad_edge.adllm.model import AdLlm

TOLERANCE = {"rtol": 0.0, "atol": 1e-4}


@pytest.fixture(scope="module")
def model() -> AdLlm:
    return tiny_model()


@pytest.fixture(scope="module")
def short() -> AdLlm:
    return tiny_model(SHORT)


def drive(model, text, tokens, notices):
    """Alone, frame by frame: waypoints ``[F, 5, 2]`` and completed ``[F]``."""
    (history,) = model.start([text])
    steps = [model.step([history], t[None], [notices.get(i)]) for i, t in enumerate(tokens)]
    return torch.cat([s.waypoints_m for s in steps]), torch.cat([s.completed for s in steps])


def read_clip(model, text, tokens, notices):
    with torch.no_grad():
        out = model(
            ClipBatch(
                instructions=(text,),
                tokens=tokens[None],
                num_frames=(len(tokens),),
                notices=(notices,),
            )
        )
    return out.waypoints_m[0], out.completed_logits[0].softmax(-1)[:, 1]


@pytest.mark.parametrize("notices", [{}, {0: TEXTS[5], 7: TEXTS[6], 39: TEXTS[5], 45: TEXTS[6]}])
def test_seventy_frames_one_by_one_are_the_whole_clip(model, notices):
    tokens = tiny_tokens(70)

    got = drive(model, TEXTS[0], tokens, notices)
    want = read_clip(model, TEXTS[0], tokens, notices)

    torch.testing.assert_close(got, want, **TOLERANCE)
    assert want[0].std(dim=0).min() > 1e-2  # the answers are not all the same


def test_every_answer_is_that_of_reading_only_what_the_rule_shows(model):
    """The oracle: for each frame a new model call on the frames it sees, and nothing else."""
    tokens, notices = tiny_tokens(64, seed=3), {19: TEXTS[5], 20: TEXTS[6], 41: TEXTS[5]}
    got, _ = drive(model, TEXTS[1], tokens, notices)

    for frame in (0, 1, 20, 39, 40, 41, 59, 60, 63):
        first = CONFIG.history.first_seen(frame)
        seen = {f - first: n for f, n in notices.items() if first <= f <= frame}
        want, _ = read_clip(model, TEXTS[1], tokens[first : frame + 1], seen)
        torch.testing.assert_close(got[frame], want[-1], **TOLERANCE)


def test_a_batch_of_any_lengths_says_what_each_alone_says(short):
    """Starting, appending, with a notice, and reading again, all in one batch."""
    ages = [0, 1, 3, 6, 11, 10, 2]
    texts = [TEXTS[i % 5] for i in range(len(ages))]
    streams = [tiny_tokens(14, seed=i) for i in range(len(ages))]
    notices = [{i: TEXTS[5 + i % 2]} for i in range(len(ages))]
    alone = [drive(short, *each) for each in zip(texts, streams, notices, strict=True)]

    histories = short.start(texts)
    for history, stream, age, notice in zip(histories, streams, ages, notices, strict=True):
        for frame in range(age):
            short.step([history], stream[frame][None], [notice.get(frame)])
    for turn in range(3):
        now = [age + turn for age in ages]
        out = short.step(
            histories,
            torch.stack([s[f] for s, f in zip(streams, now, strict=True)]),
            [n.get(f) for n, f in zip(notices, now, strict=True)],
        )
        want = torch.stack([a[0][f] for a, f in zip(alone, now, strict=True)])
        torch.testing.assert_close(out.waypoints_m, want, **TOLERANCE)
        completed = torch.stack([a[1][f] for a, f in zip(alone, now, strict=True)])
        torch.testing.assert_close(out.completed, completed, **TOLERANCE)
    assert all(h.num_frames <= 6 for h in histories)


@pytest.mark.parametrize("frame", [0, 3])
def test_a_notice_changes_what_comes_after_its_frame_and_nothing_before(model, frame):
    tokens = tiny_tokens(6)
    with_notice, _ = drive(model, TEXTS[0], tokens, {frame: TEXTS[6]})
    without, _ = drive(model, TEXTS[0], tokens, {})

    torch.testing.assert_close(with_notice[: frame + 1], without[: frame + 1], **TOLERANCE)
    assert (with_notice[frame + 1 :] - without[frame + 1 :]).abs().amax(dim=(1, 2)).min() > 1e-3


def test_a_frame_depends_on_the_instruction_and_on_the_past(model):
    tokens = tiny_tokens(2)
    left, _ = drive(model, TEXTS[0], tokens, {})
    right, _ = drive(model, TEXTS[1], tokens, {})
    without_past, _ = drive(model, TEXTS[0], tokens[1:], {})

    assert (left - right).abs().max() > 1e-2
    assert (left[1] - without_past[0]).abs().max() > 1e-2


def test_memory_stays_bounded_and_a_new_instruction_starts_anew(short):
    (history,) = short.start([TEXTS[0]])
    sizes = []
    for frame in tiny_tokens(40):
        short.step([history], frame[None], [None])
        sizes.append(history.num_bytes)

    assert max(sizes[10:]) == max(sizes[:10])
    (again,) = short.start([TEXTS[0]])
    first = short.step([again], tiny_tokens(1), [None]).waypoints_m
    torch.testing.assert_close(first, drive(short, TEXTS[0], tiny_tokens(1), {})[0], **TOLERANCE)


def test_what_is_refused_leaves_every_history_as_it_was(model):
    histories = model.start([TEXTS[0], TEXTS[1]])
    tokens = tiny_tokens(3, 2)
    model.step(histories, tokens[0], [None, None])
    nan = tokens[1].clone()
    nan[1, 0, 0] = torch.nan

    for wrong, complaint in {
        (nan, (None, None)): r"vehicles \[1\] of the batch are not finite",
        (tokens[1][:, :5], (None, None)): r"expected torch.float32 \[..., 6, 8\]",
        (tokens[1].double(), (None, None)): "torch.float64",
        (tokens[1][:1], (None, None)): "same number of each",
        (tokens[1], (None, "x" * 100_000)): "notice is too long",
        (tokens[1], ("", None)): "notice is empty",
    }.items():
        with pytest.raises(ValueError, match=complaint):
            model.step(histories, *wrong)
    with pytest.raises(ValueError, match="twice in the batch"):
        model.step([histories[0]] * 2, tokens[1], [None, None])
    with pytest.raises(ValueError, match="another model"):
        tiny_model().step(histories, tokens[1], [None, None])

    got = model.step(histories, tokens[2], [None, None]).waypoints_m
    for row in range(2):
        want, _ = drive(model, TEXTS[row], tokens[[0, 2], row], {})
        torch.testing.assert_close(got[row], want[1], **TOLERANCE)


def test_a_model_in_training_mode_does_not_drive():
    model = tiny_model().train()

    with pytest.raises(ValueError, match="training mode"):
        model.step(model.start([TEXTS[0]]), tiny_tokens(1), [None])


@pytest.mark.parametrize("every", [1, 2, 5])
def test_reading_ahead_at_any_time_changes_no_answer(short, every):
    """Vehicles of different ages; whatever was read ahead, and whenever, each says the same."""
    texts = [TEXTS[0], TEXTS[1], TEXTS[0]]
    streams = [tiny_tokens(24, seed=i) for i in range(3)]
    notices = [{2: TEXTS[5], 9: TEXTS[6]}, {5: TEXTS[6], 6: TEXTS[5]}, {}]
    alone = [drive(short, *each)[0] for each in zip(texts, streams, notices, strict=True)]
    histories = short.start(texts)
    ages, num_read = [0, 2, 5], 0
    for history, stream, age, notice in zip(histories, streams, ages, notices, strict=True):
        for frame in range(age):
            short.step([history], stream[frame][None], [notice.get(frame)])
    for turn in range(18):
        now = [age + turn for age in ages]
        out = short.step(
            histories,
            torch.stack([s[f] for s, f in zip(streams, now, strict=True)]),
            [n.get(f) for n, f in zip(notices, now, strict=True)],
        )
        want = torch.stack([a[f] for a, f in zip(alone, now, strict=True)])
        torch.testing.assert_close(out.waypoints_m, want, **TOLERANCE)
        if turn % every == 0:
            num_read += short.read_ahead(histories, max_frames=1 + turn % 3)
    assert num_read > 3, "nothing was read ahead: this test compared nothing"


def test_what_was_read_ahead_is_not_read_again_when_frames_drop(model, monkeypatch):
    rule = CONFIG.history
    lengths = []
    inner = driving.read

    def counted(llm, embeddings, positions, kv=None):
        lengths.append(embeddings.shape[1])
        return inner(llm, embeddings, positions, kv)

    monkeypatch.setattr(driving, "read", counted)
    queries = CONFIG.qformer.num_queries
    for ahead in (False, True):
        (history,) = model.start([TEXTS[0]])
        for frame in tiny_tokens(rule.max_frames):
            model.step([history], frame[None], [None])
            while ahead and model.read_ahead([history], max_frames=8):
                pass
        assert model.read_ahead([history], max_frames=0) == 0
        lengths.clear()
        model.step([history], tiny_tokens(1), [None])
        kept = 0 if ahead else rule.max_frames - rule.dropped_frames
        assert lengths == [(kept + 1) * queries]

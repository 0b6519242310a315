# SPDX-License-Identifier: Apache-2.0
"""What the encoder's graph promises whatever its weights are."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import fx, nn

from flad_perception.batch import EncoderInput
from flad_perception.config import load_encoder_config
from flad_perception.model.encoder import build_encoder, encode, normalise

CONFIGS = ("small", "small_batchnorm")


@pytest.fixture(scope="module", params=CONFIGS)
def model(request):
    return _with_a_drawn_head(request.getfixturevalue(request.param))


@pytest.fixture(scope="module")
def small_model(small):
    return _with_a_drawn_head(small)


def _run(model, batch: EncoderInput):
    with torch.no_grad():
        return encode(model, batch)


def _assert_close(a, b, atol: float = 1e-5) -> None:
    for name, x, y in zip(a._fields, a, b, strict=True):
        assert torch.allclose(x, y, rtol=0.0, atol=atol), (name, (x - y).abs().max())


def test_the_order_of_points_does_not_matter(model, make_input):
    batch = make_input(model.config, 2, num_points=3000)
    shuffled = batch.points.clone()
    for i, n in enumerate(batch.num_points.tolist()):
        order = torch.randperm(n, generator=torch.Generator().manual_seed(i))
        shuffled[i, :n] = batch.points[i, order]
    assert not torch.equal(shuffled, batch.points)

    _assert_close(_run(model, batch), _run(model, dataclasses.replace(batch, points=shuffled)))


def test_points_matter(small_model, make_input):
    batch = make_input(small_model.config)
    moved = dataclasses.replace(batch, points=batch.points + torch.tensor([1.0, 0.0, 0.0, 0.0]))

    assert not torch.allclose(_run(small_model, batch).tokens, _run(small_model, moved).tokens)


def test_padding_and_what_lies_outside_do_not_matter(model, make_input):
    batch = make_input(model.config)
    padded = torch.cat((batch.points, torch.full((2, 50, 4), 3.0)), dim=1)
    for i, n in enumerate(batch.num_points.tolist()):
        padded[i, n:] = torch.tensor([1.0, 2.0, 3.0, 0.5])  # inside the area, but not counted
    longer = dataclasses.replace(batch, points=padded)
    _assert_close(_run(model, batch), _run(model, longer))

    beyond = batch.points.clone()
    beyond[:, :5] = torch.tensor([500.0, 0.0, 0.0, 1.0])
    nowhere = batch.points.clone()
    nowhere[:, :5] = torch.tensor([float("nan"), float("inf"), -float("inf"), 1.0])
    _assert_close(
        _run(model, dataclasses.replace(batch, points=beyond)),
        _run(model, dataclasses.replace(batch, points=nowhere)),
    )


@pytest.mark.parametrize("training", [False, True])
def test_an_empty_sweep_is_no_error(model, make_input, training):
    batch = make_input(model.config)
    empty = dataclasses.replace(batch, num_points=torch.zeros(2, dtype=torch.int64))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    try:
        output = encode(model.train(training), empty)
        sum(x.sum() for x in output).backward()
    finally:
        model.load_state_dict(before)
        model.zero_grad()
        model.eval()

    assert all(torch.isfinite(x).all() for x in output)


def test_one_frame_alone_is_what_it_is_in_a_batch(model, make_input):
    batch = make_input(model.config, 3)
    together = _run(model, batch)
    alone = _run(model, batch.slice(slice(1, 2)))

    _assert_close(type(together)(*(x[1:2] for x in together)), alone)


@pytest.mark.parametrize("view", range(5))
def test_a_dropped_view_is_ignored_whatever_it_shows(small_model, make_input, view):
    batch = make_input(small_model.config)
    valid = batch.view_valid.clone()
    valid[0, view] = False
    dropped = dataclasses.replace(batch, view_valid=valid)
    name = small_model.config.views[view].name
    other = {**batch.images, name: 255 - batch.images[name]}
    other[name][1] = batch.images[name][1]

    seen, without = _run(small_model, batch), _run(small_model, dropped)
    _assert_close(without, _run(small_model, dataclasses.replace(dropped, images=other)), 0.0)
    assert not torch.allclose(seen.tokens[0], without.tokens[0])
    assert torch.allclose(seen.tokens[1], without.tokens[1], atol=1e-5)


def test_without_any_camera_it_still_answers(model, make_input):
    batch = make_input(model.config)
    blind = dataclasses.replace(batch, view_valid=torch.zeros_like(batch.view_valid))

    assert all(torch.isfinite(x).all() for x in _run(model, blind))


def test_only_waypoints_know_the_target_point(model, make_input):
    batch = make_input(model.config)
    a = _run(model, batch)
    b = _run(model, dataclasses.replace(batch, target_point_m=batch.target_point_m + 5.0))

    assert torch.equal(a.tokens, b.tokens)
    assert torch.equal(a.detection, b.detection)
    assert not torch.allclose(a.waypoints_m, b.waypoints_m)


def _with_a_drawn_head(config):
    """A model whose waypoint head is not at its start, where it says constant velocity."""
    model = build_encoder(config, seed=1).eval()
    nn.init.normal_(model.waypoints.out.weight)
    return model


@pytest.mark.parametrize("name", [*CONFIGS, "paper"])
def test_a_trace_computes_the_same(request, make_input, name):
    config = request.getfixturevalue(name)
    model = build_encoder(config, seed=2).eval()
    batch = make_input(config, 1)
    arguments = (
        {name: normalise(x) for name, x in batch.images.items()},
        *(batch.view_valid, batch.points, batch.num_points),
        *(batch.speed_mps, batch.target_point_m),
    )
    traced = fx.symbolic_trace(model)
    with torch.no_grad():
        expected, got = model(*arguments), traced(*arguments)

    assert all(torch.equal(x, y) for x, y in zip(expected, got, strict=True))
    leaves = [str(node.target) for node in traced.graph.nodes if node.op == "call_function"]
    assert sum("decorate" in leaf for leaf in leaves) == 1
    assert sum("scatter_max" in leaf for leaf in leaves) == 1


def test_a_trace_serves_other_batch_sizes_and_trains(small, make_input):
    model = build_encoder(small, seed=2)
    traced = fx.symbolic_trace(model)
    for num_frames in (1, 3):
        batch = make_input(small, num_frames)
        images = {name: normalise(x) for name, x in batch.images.items()}
        output = traced(
            *(images, batch.view_valid, batch.points, batch.num_points),
            *(batch.speed_mps, batch.target_point_m),
        )
        assert len(output.tokens) == num_frames
    sum(x.sum() for x in output).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_small_needs_no_batch_statistics(small_model):
    norms = [m for m in small_model.modules() if "Norm" in type(m).__name__]

    assert {type(m) for m in norms} == {nn.GroupNorm, nn.LayerNorm}
    assert not [name for name, _ in small_model.named_buffers() if "running" in name]


def test_small_fits_two_cores(small, small_model, make_input):
    """Counted, forward and backward of a frame: the bound of the plan is time (see the bench)."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        output = encode(small_model, make_input(small, 1, num_points=small.lidar.max_points))
        sum(x.sum() for x in output).backward()
    small_model.zero_grad()

    assert counter.get_total_flops() < 0.88e9
    assert sum(p.numel() for p in small_model.parameters()) < 3e6


def test_the_seed_decides_the_weights_and_nothing_else(small):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    a, b, c = (build_encoder(small, seed) for seed in (1, 1, 2))

    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.queries, c.queries)


def test_detection_starts_from_its_prior(small, make_input):
    output = _run(build_encoder(small, seed=0).eval(), make_input(small))
    guessed = torch.sigmoid(output.detection[..., 0])

    assert guessed.median().item() == pytest.approx(small.detection_prior, rel=0.8)


def test_untrained_waypoints_are_constant_velocity(small, make_input):
    batch = make_input(small)
    output = _run(build_encoder(small, seed=0).eval(), batch)
    expected = torch.zeros(2, 5, 2)
    expected[..., 0] = batch.speed_mps[:, None] * 0.5 * torch.arange(1, 6)

    assert torch.allclose(output.waypoints_m, expected, atol=1e-5)


def test_a_query_answers_for_its_own_cells(small):
    """Cell (2r + i, 2c + j) comes from query (r, c), whichever token it is in."""
    head = build_encoder(small).detection
    rows, columns = small.grid.query_shape
    tokens = torch.zeros(1, rows * columns, small.embed_dim)
    speed = torch.zeros(1, 1)
    with torch.no_grad():
        base = head(tokens, speed)
        tokens[0, 3 * columns + 5] = 1.0
        changed = (head(tokens, speed) != base).any(dim=-1)[0]

    assert set(map(tuple, changed.nonzero().tolist())) <= {(6, 10), (6, 11), (7, 10), (7, 11)}
    assert changed.any()


def test_a_missing_or_wrong_view_is_named(small_model, make_input):
    batch = make_input(small_model.config)
    images = dict(batch.images)
    del images["rear"]
    with pytest.raises(ValueError, match=r"needs view 'rear' as \[2, 3, 48, 64\], got \['front'"):
        encode(small_model, dataclasses.replace(batch, images=images))
    images["rear"] = batch.images["front"]
    with pytest.raises(ValueError, match=r"view 'rear' .* got \[2, 3, 96, 160\]"):
        encode(small_model, dataclasses.replace(batch, images=images))


def test_another_contract_is_refused(small):
    with pytest.raises(ValueError, match="token contract 99, this version of FLAD has 1"):
        build_encoder(dataclasses.replace(small, contract_version=99))


def test_configurations_say_what_does_not_fit(small):
    with pytest.raises(ValueError, match="embed_dim"):
        dataclasses.replace(small, embed_dim=66)
    with pytest.raises(ValueError, match=r"4\.0 m short of the grid ahead"):
        dataclasses.replace(
            small, grid=dataclasses.replace(small.grid, x_max_m=36.0, x_min_m=-24.0)
        )
    with pytest.raises(ValueError, match="pooled_bev"):
        dataclasses.replace(small, pooled_bev=(13, 6))
    with pytest.raises(ValueError, match="share a name"):
        dataclasses.replace(small, views=(small.views[0], small.views[0]))
    with pytest.raises(ValueError, match="narrow needs blocks"):
        dataclasses.replace(small.backbone, widths=(8,))
    with pytest.raises(ValueError, match="must be positive and fit into"):
        dataclasses.replace(small.views[0], crop_px=(500, 10))
    with pytest.raises(ValueError, match="known are paper, small"):
        load_encoder_config("nothing")


@pytest.mark.parametrize("told", [True, False])
def test_the_light_query_is_told_the_speed_or_not(small, make_input, told):
    # Without decoder layers nothing else can tell it.
    config = dataclasses.replace(small, num_decoder_layers=0, light_sees_speed=told)
    model = build_encoder(config, 1).eval()
    batch = make_input(config)
    slow, fast = (
        _run(model, dataclasses.replace(batch, speed_mps=torch.full((2,), speed)))
        for speed in (0.0, 9.0)
    )

    assert torch.equal(slow.light_logits, fast.light_logits) is not told
    assert not torch.allclose(slow.waypoints_m, fast.waypoints_m)

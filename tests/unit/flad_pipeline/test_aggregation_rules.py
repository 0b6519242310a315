# SPDX-License-Identifier: Apache-2.0
"""What the rules promise beyond Flower's figures: memory, robustness, types, refusals."""

from __future__ import annotations

import weakref

import pytest
import torch
from flower_net import flower_net
from torch import nn

from flad_pipeline.aggregation import order
from flad_pipeline.aggregation.fed_adam import FedAdam
from flad_pipeline.aggregation.krum import krum, krum_scores
from flad_pipeline.aggregation.layout import ClientState, ModelLayout, state_hash
from flad_pipeline.aggregation.mean import fed_avg
from flad_pipeline.aggregation.order import median, trimmed_mean
from flad_pipeline.aggregation.proximal import ProximalTerm
from flad_pipeline.aggregation.strategy import Aggregator, StrategyConfig


def net():
    model = flower_net()
    model.register_buffer("mask", torch.tensor([True, False]))
    model.register_buffer("short", torch.ones(4, dtype=torch.float16))
    return model


LAYOUT = ModelLayout.of(net())


def random_client(seed: int, num_samples: int = 10, scale: float = 0.1) -> ClientState:
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, t in LAYOUT.tensors.items():
        if t.kind == "fixed":
            state[name] = torch.tensor([True, False])
        elif t.kind == "counter":
            state[name] = torch.randint(0, 100, t.shape, generator=generator, dtype=t.dtype)
        else:
            state[name] = (1.0 + scale * torch.randn(t.shape, generator=generator)).to(t.dtype)
    return ClientState(client=f"vehicle_{seed}", num_samples=num_samples, tensors=state)


def test_kinds_are_read_off_the_module():
    frozen = net()
    frozen[0].bias.requires_grad_(False)
    kinds = {name: t.kind for name, t in ModelLayout.of(frozen).tensors.items()}

    assert kinds["0.weight"] == "trained"
    assert kinds["0.bias"] == kinds["mask"] == "fixed"
    assert kinds["1.running_mean"] == kinds["1.running_var"] == kinds["short"] == "statistic"
    assert kinds["1.num_batches_tracked"] == "counter"


def test_a_mean_never_holds_more_than_itself_and_one_client():
    alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    most = 0

    def arriving():
        nonlocal most
        for seed in range(6):
            client = random_client(seed)
            alive.update(client.tensors.values())
            yield client
            most = max(most, len(alive))
            del client

    fed_avg(LAYOUT, arriving())

    assert most <= 2 * len(LAYOUT.tensors)  # the one in hand, and the one the loop lets go


@pytest.mark.parametrize("num", [1, 4, 5])
@pytest.mark.parametrize("rule", [median, lambda *a, **k: trimmed_mean(*a, trim=0.3, **k)])
def test_chunks_do_not_change_what_comes_out(rule, num):
    clients = [random_client(seed) for seed in range(num)]

    whole = rule(LAYOUT, clients)

    for chunk_elements in (1, 2, 5):
        parts = rule(LAYOUT, clients, chunk_elements=chunk_elements)
        assert state_hash(parts) == state_hash(whole)


def test_a_chunk_holds_one_chunk_of_each_client():
    seen = []
    clients = [random_client(seed) for seed in range(3)]
    names = ["0.weight", "1.num_batches_tracked"]
    order.for_each_chunk(
        LAYOUT, clients, names, 4, lambda name, where, values: seen.append((name, values.shape))
    )

    assert seen == [
        ("0.weight", (3, 4)),
        ("0.weight", (3, 2)),
        ("1.num_batches_tracked", (3, 1)),
    ]


@pytest.mark.parametrize(
    "rule",
    [
        lambda clients: median(LAYOUT, clients),
        lambda clients: trimmed_mean(LAYOUT, clients, trim=0.2),
        lambda clients: krum(LAYOUT, clients, num_byzantine=1),
    ],
    ids=["median", "trimmed", "krum"],
)
@pytest.mark.parametrize("victim", ["0.weight", "1.running_mean"])
def test_one_liar_among_seven_moves_a_robust_rule_little_and_the_mean_far(rule, victim):
    clients = [random_client(seed) for seed in range(7)]
    lie = dict(clients[3].tensors) | {victim: torch.full(LAYOUT.tensors[victim].shape, 1e4)}
    clients[3] = ClientState(client="liar", num_samples=1, tensors=lie)

    assert (rule(clients)[victim] - 1.0).abs().max() < 0.5
    assert (fed_avg(LAYOUT, clients)[victim] - 1.0).abs().min() > 50.0


def test_krum_scores_are_the_sums_over_the_nearest():
    clients = [random_client(seed) for seed in range(6)]
    names = LAYOUT.names("trained", "statistic")
    points = torch.stack(
        [torch.cat([c.tensors[n].double().reshape(-1) for n in names]) for c in clients]
    )
    distances = torch.cdist(points, points).square()
    wanted = torch.stack([row.sort().values[1 : 6 - 1 - 2 + 1].sum() for row in distances])

    found = krum_scores(LAYOUT, clients, num_byzantine=1, chunk_elements=2)

    torch.testing.assert_close(found, wanted)


def test_types_and_whole_numbers_survive_every_rule():
    clients = [random_client(seed, num_samples=seed + 1) for seed in range(7)]
    for name in ("fedavg", "fedprox", "fedadam", "median", "trimmed_mean", "krum"):
        result = Aggregator(StrategyConfig(name=name), LAYOUT).aggregate(
            clients[0].tensors, clients
        )
        assert LAYOUT.complaints(result) == []
        assert result["mask"].tolist() == [True, False]


def test_a_count_of_batches_is_the_rounded_mean_by_samples():
    clients = [random_client(0, num_samples=1), random_client(1, num_samples=3)]
    for client, count in zip(clients, (2**40, 2**40 + 3), strict=True):
        client.tensors["1.num_batches_tracked"].fill_(count)

    assert int(fed_avg(LAYOUT, clients)["1.num_batches_tracked"]) == 2**40 + 2  # 2.25 over


def test_fedadam_goes_on_from_its_saved_state():
    clients = [random_client(seed) for seed in range(5)]
    start = random_client(9).tensors
    numbers = {"rate": 0.1, "beta1": 0.9, "beta2": 0.99, "tau": 1e-3}
    through, before, after = (FedAdam(LAYOUT, **numbers) for _ in range(3))

    first = through.step(start, fed_avg(LAYOUT, clients[:3]))
    before.step(start, fed_avg(LAYOUT, clients[:3]))
    saved = before.state_dict()
    before.step(first, fed_avg(LAYOUT, clients[:1]))  # does not change what was saved
    after.load_state_dict(saved)

    mean = fed_avg(LAYOUT, clients[3:])
    assert state_hash(after.step(first, mean)) == state_hash(through.step(first, mean))
    assert state_hash(FedAdam(LAYOUT, **numbers).step(first, mean)) != state_hash(
        after.step(first, mean)
    )


def test_the_proximal_gradient_is_that_of_the_penalty():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[0].bias.requires_grad_(False)
    start = [p.detach().clone() for p in model.parameters()]
    term = ProximalTerm(model, mu=0.3)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * p.requires_grad)
    data = torch.randn(5, 3)

    model(data).square().mean().backward()
    term.add_gradient()
    ours = [p.grad.clone() for p in model.parameters() if p.requires_grad]
    model.zero_grad()
    penalty = sum((p - s).square().sum() for p, s in zip(model.parameters(), start, strict=True))
    (model(data).square().mean() + 0.15 * penalty).backward()

    torch.testing.assert_close(ours, [p.grad for p in model.parameters() if p.requires_grad])
    assert term.penalty() == pytest.approx(0.15 * float(penalty.detach()), rel=1e-5)


def test_the_proximal_terms_of_stages_are_that_of_the_whole():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    terms = [ProximalTerm(part, 0.5) for part in (model, model[0], model[1])]
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)

    assert terms[0].penalty() == pytest.approx(terms[1].penalty() + terms[2].penalty())


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: fed_avg(LAYOUT, []), "no update"),
        (lambda: fed_avg(LAYOUT, [random_client(0, num_samples=0)]), "0 samples"),
        (lambda: median(LAYOUT, []), "no update"),
        (lambda: trimmed_mean(LAYOUT, [random_client(0)], trim=0.5), r"\[0, 0.5\)"),
        (lambda: krum(LAYOUT, [random_client(s) for s in range(4)], num_byzantine=1), "needs 5"),
        (lambda: ProximalTerm(net(), -1.0), "negative"),
        (lambda: StrategyConfig(trim=0.7), "trim"),
        (lambda: StrategyConfig(server_rate=0.0), "positive"),
    ],
)
def test_what_cannot_be_done_is_said(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()


def test_a_hash_tells_values_names_and_types_apart():
    state = random_client(0).tensors
    other = dict(state) | {"0.bias": state["0.bias"] + 1e-6}
    renamed = {("x" if n == "0.bias" else n): t for n, t in state.items()}
    retyped = dict(state) | {"short": state["short"].bfloat16()}

    assert len({state_hash(s) for s in (state, other, renamed, retyped)}) == 4
    assert state_hash(dict(reversed(list(state.items())))) == state_hash(state)

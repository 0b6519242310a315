# SPDX-License-Identifier: Apache-2.0
"""Nothing unsigned, old, broken or foreign gets through the gate, and each refusal says why."""

from __future__ import annotations

import gc
import json
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from flower_net import flower_net

from flad_common.error_codes import FladError
from flad_pipeline.aggregation.gate import UpdateGate
from flad_pipeline.aggregation.keys import KeyRing, VehicleKey
from flad_pipeline.aggregation.layout import ModelLayout, state_hash
from flad_pipeline.aggregation.mean import fed_avg
from flad_pipeline.aggregation.norms import GateConfig, NormHistory
from flad_pipeline.aggregation.ticket import ClientTicket, RoundTicket
from flad_pipeline.aggregation.update import SignedUpdate, signed_bytes, signed_update

torch.manual_seed(3)
MODEL = flower_net()
MODEL.register_buffer("mask", torch.tensor([True, False]))
LAYOUT = ModelLayout.of(MODEL)
START = {name: tensor.clone() for name, tensor in MODEL.state_dict().items()}
FRONT = frozenset(name for name in START if name.startswith("0."))
REST = frozenset(START) - FRONT
VEHICLES = ("able", "small_1", "small_2", "stranger")
KEYS = {name: VehicleKey.generate() for name in VEHICLES}


def enrolled(*names):
    ring = KeyRing()
    for name in names:
        ring = ring.enrol(name, KEYS[name].public, today="2026-11-22")
    return ring


RING = enrolled("able", "small_1", "small_2")
TICKET = RoundTicket(
    round=4,
    start_hash=state_hash(START),
    clients=(
        ClientTicket(client="able", parts={"able": frozenset(START)}, max_samples=100),
        ClientTicket(client="cluster", parts={"small_1": FRONT, "small_2": REST}, max_samples=100),
    ),
)


def gate(ticket=TICKET, ring=RING, config=None):
    return UpdateGate(LAYOUT, START, ticket, ring, NormHistory(config or GateConfig()))


def trained(step=0.1):
    return {
        name: tensor + step if LAYOUT.tensors[name].kind in ("trained", "statistic") else tensor
        for name, tensor in START.items()
    }


def update(vehicle="able", *, tensors=None, client=None, key=None, **other):
    values = {
        "round_number": TICKET.round,
        "round_id": TICKET.round_id,
        "start_hash": TICKET.start_hash,
        "num_samples": 40,
    } | other
    names = dict(TICKET.clients[1].parts).get(vehicle, START)
    return signed_update(
        key or KEYS[vehicle],
        tensors or {n: t for n, t in trained().items() if n in names},
        vehicle=vehicle,
        client=client or ("able" if vehicle == "able" else "cluster"),
        **values,
    )


def changed(name, value):
    return trained() | {name: value}


def rewritten(**values):
    """A header that says something else under the old signature."""
    sound = update()
    return replace(
        sound, header=json.dumps(json.loads(sound.header) | values, sort_keys=True).encode()
    )


def resigned(header):
    return SignedUpdate(
        header=header, signature=KEYS["able"].sign(signed_bytes(header)), payload=update().payload
    )


NAN = torch.full_like(START["0.weight"], float("nan"))
SOUND = json.loads(update().header)

REFUSED = {
    "no header": (lambda: resigned(b"{"), "UPDATE_MALFORMED", "no JSON"),
    "nested header": (lambda: resigned(b"[" * 4000), "UPDATE_MALFORMED", "header"),
    "other fields": (lambda: resigned(b'{"vehicle": 1}'), "UPDATE_MALFORMED", "expected"),
    "long header": (lambda: resigned(b" " * 5000), "UPDATE_MALFORMED", "5000 bytes"),
    "true is no number": (
        lambda: resigned(json.dumps(SOUND | {"round": True}).encode()),
        "UPDATE_MALFORMED",
        "round is a int",
    ),
    "other version": (
        lambda: resigned(json.dumps(SOUND | {"version": 3}).encode()),
        "UPDATE_MALFORMED",
        "version 3",
    ),
    "other tensors": (
        lambda: replace(update(), payload=update(tensors=trained(0.2)).payload),
        "UPDATE_MALFORMED",
        "not those that were signed",
    ),
    "cut off": (
        lambda: replace(update(), payload=update().payload[:-1]),
        "UPDATE_MALFORMED",
        "the header says",
    ),
    "unsigned": (lambda: replace(update(), signature=bytes(64)), "UPDATE_UNSIGNED", "able"),
    "another's key": (lambda: update(key=KEYS["stranger"]), "UPDATE_UNSIGNED", "not that of"),
    "not enrolled": (lambda: update("stranger"), "UPDATE_UNSIGNED", "no key is enrolled"),
    "more samples than signed": (
        lambda: rewritten(num_samples=99),
        "UPDATE_UNSIGNED",
        "not that of",
    ),
    "earlier round": (lambda: update(round_number=3), "UPDATE_REPLAYED", "round 3"),
    "same number, other federation": (
        lambda: update(round_id="00" * 16),
        "UPDATE_REPLAYED",
        "round 4",
    ),
    "other start": (lambda: update(start_hash="0" * 16), "UPDATE_REPLAYED", "started from"),
    "for a client it is not in": (
        lambda: update("small_1", client="able"),
        "UPDATE_NOT_ASKED",
        "small_1",
    ),
    "for nobody": (lambda: update(client="x" * 900), "UPDATE_NOT_ASKED", "not asked"),
    "too much data": (lambda: update(num_samples=101), "UPDATE_NOT_ASKED", "101"),
    "no data": (lambda: update(num_samples=0), "UPDATE_NOT_ASKED", "claims 0"),
    "another stage's tensors": (
        lambda: update("small_1", tensors=trained()),
        "UPDATE_WRONG_SHAPE",
        "does not belong",
    ),
    "a tensor missing": (
        lambda: update(tensors={n: t for n, t in trained().items() if n != "0.bias"}),
        "UPDATE_WRONG_SHAPE",
        "0.bias is missing",
    ),
    "wrong shape": (
        lambda: update(tensors=changed("0.bias", torch.zeros(4))),
        "UPDATE_WRONG_SHAPE",
        r"\[4\], expected torch.float32 \[3\]",
    ),
    "wrong type": (
        lambda: update(tensors=changed("0.bias", torch.zeros(3, dtype=torch.float64))),
        "UPDATE_WRONG_SHAPE",
        "float64",
    ),
    "far too large": (
        lambda: update(tensors=changed("0.bias", torch.zeros(40_000))),
        "UPDATE_WRONG_SHAPE",
        "bytes of tensors",
    ),
    "NaN": (lambda: update(tensors=changed("0.weight", NAN)), "UPDATE_NOT_FINITE", "6 of 6"),
    "infinite statistic": (
        lambda: update(tensors=changed("1.running_mean", torch.full((3,), float("inf")))),
        "UPDATE_NOT_FINITE",
        "running_mean",
    ),
    "negative variance": (
        lambda: update(tensors=changed("1.running_var", torch.full((3,), -1.0))),
        "UPDATE_NOT_FINITE",
        "variance",
    ),
    "a mask that moved": (
        lambda: update(tensors=changed("mask", torch.tensor([True, True]))),
        "UPDATE_NOT_FINITE",
        "not trained",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_it_is_refused_with_its_reason_and_the_sound_one_still_counts(kind):
    make, code, words = REFUSED[kind]
    there = gate()

    with pytest.raises(FladError, match=words) as refused:
        there.admit(make())

    assert refused.value.code.name == code
    assert there.refusal_counts == {code: 1}
    assert [refusal.code.name for refusal in there.last_refusals] == [code]
    assert there.missing == {"able": ["able"], "cluster": ["small_1", "small_2"]}
    admitted = there.admit(update())
    assert admitted is not None
    assert admitted.num_samples == 40
    assert state_hash(fed_avg(LAYOUT, [admitted])) == state_hash(trained())


def test_the_same_update_again_is_refused():
    there = gate()
    there.admit(update())

    with pytest.raises(FladError, match="here already"):
        there.admit(update())


def test_a_refused_update_is_not_held():
    there = gate()
    sent = update(tensors=changed("0.weight", NAN))
    memory = np.frombuffer(sent.payload, dtype=np.uint8).copy()
    held = weakref.ref(memory)

    with pytest.raises(FladError):
        there.admit(replace(sent, payload=memory.data))

    del memory
    gc.collect()
    assert held() is None
    assert there.refusal_counts == {"UPDATE_NOT_FINITE": 1}


def test_a_cluster_counts_when_every_stage_has_signed_its_units():
    there = gate()

    assert there.admit(update("small_2")) is None
    assert there.missing["cluster"] == ["small_1"]
    whole = there.admit(update("small_1"))

    assert whole is not None
    assert whole.client == "cluster"
    assert list(whole.tensors) == list(START)
    assert state_hash(whole.tensors) == state_hash(trained())


def test_stages_that_disagree_about_their_samples_make_no_client():
    there = gate()
    there.admit(update("small_1"))

    with pytest.raises(FladError, match="others said 40"):
        there.admit(update("small_2", num_samples=41))

    assert there.missing["cluster"] == ["small_2"]


def test_a_revoked_key_counts_no_more():
    there = gate(ring=RING.revoke("able", today="2026-11-23"))

    with pytest.raises(FladError, match="revoked on 2026-11-23"):
        there.admit(update())


def test_an_update_far_beyond_the_others_is_refused_and_does_not_move_the_limit():
    norms = NormHistory(GateConfig(norm_factor=3.0, norm_least=2, max_norm=50.0))
    UpdateGate(LAYOUT, START, TICKET, RING, norms).admit(update())
    assert norms.limit("trained") == 50.0
    UpdateGate(LAYOUT, START, TICKET, RING, norms).admit(update())
    limit = norms.limit("trained")
    there = UpdateGate(LAYOUT, START, TICKET, RING, norms)

    with pytest.raises(FladError, match="trained tensors") as refused:
        there.admit(update(tensors=trained(1.0)))

    assert refused.value.code.name == "UPDATE_TOO_FAR"
    assert norms.limit("trained") == limit < 50.0
    assert "able" not in there.missing  # its round is over: it may not try until it fits


def test_statistics_have_a_limit_of_their_own():
    norms = NormHistory(GateConfig(norm_factor=3.0, norm_least=1))
    UpdateGate(LAYOUT, START, TICKET, RING, norms).admit(update())
    far = changed("1.running_mean", torch.full((3,), 10.0))

    with pytest.raises(FladError, match="statistic tensors"):
        UpdateGate(LAYOUT, START, TICKET, RING, norms).admit(update(tensors=far))


def test_the_norms_survive_a_restart_of_the_edge():
    norms, again = (NormHistory(GateConfig(norm_least=1)) for _ in range(2))
    UpdateGate(LAYOUT, START, TICKET, RING, norms).admit(update())

    again.load_state_dict(json.loads(json.dumps(norms.state_dict())))

    assert again.limit("trained") == norms.limit("trained") < float("inf")


def test_bytes_and_back():
    sound = update()
    data = sound.to_bytes()

    back = SignedUpdate.from_bytes(bytearray(data))

    assert gate().admit(back) is not None
    for broken in (b"", data[:50], data[:-1], data + b"x", b"FLU2" + data[4:]):
        with pytest.raises(FladError, match="UPDATE_MALFORMED"):
            SignedUpdate.from_bytes(broken)


@pytest.mark.parametrize("at", range(0, 1600, 37))
def test_no_single_changed_byte_gets_through(at):
    data = bytearray(update().to_bytes())
    data[at % len(data)] ^= 0x10

    with pytest.raises(FladError, match="UPDATE_"):
        gate().admit(SignedUpdate.from_bytes(data))


def test_a_ticket_must_cover_the_model():
    half = replace(
        TICKET, clients=(ClientTicket(client="able", parts={"able": FRONT}, max_samples=9),)
    )

    with pytest.raises(ValueError, match="not the model's"):
        gate(ticket=half)
    with pytest.raises(ValueError, match="ticket is for model"):
        gate(ticket=replace(TICKET, start_hash="0" * 16))


def test_two_rounds_never_have_the_same_id():
    ids = {RoundTicket(round=1, start_hash="", clients=()).round_id for _ in range(20)}

    assert len(ids) == 20

# SPDX-License-Identifier: Apache-2.0
"""The gate lets through what is not worse by more than a margin; a triple goes back whole."""

from __future__ import annotations

import math

import pytest
from edge_service import release

from flad_common.config import from_mapping, to_mapping
from flad_edge.service.releases import ReleaseHistory, worse_than


@pytest.mark.parametrize(
    ("candidate_m", "live_m", "margin_m", "passes"),
    [
        (0.50, 0.50, 0.0, True),
        (0.40, 0.50, 0.0, True),
        (0.51, 0.50, 0.0, False),
        (0.51, 0.50, 0.02, True),
        (0.53, 0.50, 0.02, False),
        (math.nan, 0.50, 9.0, False),
        (math.inf, 0.50, 9.0, False),
        (0.50, math.nan, 0.0, True),
        (math.nan, math.nan, 0.0, False),
    ],
)
def test_the_gate(candidate_m, live_m, margin_m, passes):
    why = worse_than(
        release("new", error_m=candidate_m), release("old", error_m=live_m), margin_m=margin_m
    )
    assert (why is None) == passes


@pytest.mark.parametrize(
    ("new", "why"),
    [
        ({"adm_error_m": 0.72}, None),
        ({"adm_error_m": 0.73}, "ADM's error on held-out clips is 0.73 m, allowed are 0.7"),
        ({"adm_error_m": math.nan}, "ADM's error on held-out clips is nan"),
        ({"adm_hash": "", "adm_error_m": math.nan}, "it has no ADM"),
        ({"clips_hash": "2" * 16, "adm_error_m": 0.1}, "score both on the same"),
        ({"error_by_town_m": {"A": 0.42, "C": 9.0}}, None),
        ({"error_by_town_m": {"A": 0.1, "B": 0.63}}, "error in B on held-out clips is 0.63 m"),
        ({"error_m": 0.6}, "its error on held-out clips is 0.6 m"),
    ],
)
def test_the_gate_looks_at_all_of_the_triple_on_the_same_clips(new, why):
    both = {"adm_hash": "9" * 16, "clips_hash": "1" * 16, "adm_error_m": 0.7}
    both["error_by_town_m"] = {"A": 0.4, "B": 0.6}
    live = release("old", **both)
    said = worse_than(release("new", **{**both, **new}), live, margin_m=0.02 + 1e-9)
    assert (said is None) if why is None else (said is not None and why in said)


@pytest.mark.parametrize("margin_m", [-0.1, math.nan, math.inf])
def test_a_margin_that_lets_everything_through_is_none(margin_m):
    with pytest.raises(ValueError, match="margin_m"):
        worse_than(release("new"), release("old"), margin_m=margin_m)


def test_another_contract_never_replaces_a_release():
    why = worse_than(release("new", contract_version=4, error_m=0.0), release("old"), margin_m=9.0)
    assert why and "contract 4" in why


def test_rolling_back_restores_all_three_models_and_remembers_what_was_withdrawn():
    old = release("old", encoder_hash="1" * 16, adllm_hash="2" * 16, adm_hash="3" * 16)
    new = release(
        "new", encoder_hash="4" * 16, adllm_hash="5" * 16, adm_hash="6" * 16, adm_error_m=0.6
    )
    history = ReleaseHistory().published(old, margin_m=0.0).published(new, margin_m=0.0)
    back = history.rolled_back()
    assert (history.live, back.live, back.withdrawn) == (new, old, (new,))
    with pytest.raises(ValueError, match="nothing to roll back to"):
        back.rolled_back()
    with pytest.raises(ValueError, match="another name"):
        back.published(new, margin_m=0.0)


def test_a_worse_release_leaves_the_history_as_it_is():
    history = ReleaseHistory().published(release("old"), margin_m=0.0)
    with pytest.raises(ValueError, match=r"'new' stays out.*0\.6 m.*0\.5 \+ 0\.05"):
        history.published(release("new", error_m=0.6), margin_m=0.05)
    assert history.live == release("old")


def test_the_history_survives_a_file():
    history = ReleaseHistory().published(release("old"), margin_m=0.0)
    history = history.published(release("new", error_m=0.4), margin_m=0.0).rolled_back()
    assert from_mapping(ReleaseHistory, to_mapping(history)) == history


@pytest.mark.parametrize(
    "bad",
    [
        {"encoder_hash": "xyz"},
        {"adllm_hash": ""},
        {"num_tokens": 0},
        {"name": "a b"},
        {"waypoint_step_s": 0.0},
    ],
)
def test_a_release_that_cannot_be_is_refused(bad):
    with pytest.raises(ValueError, match=r"must be|name is"):
        release(**{"name": "fine", **bad})

# SPDX-License-Identifier: Apache-2.0
"""One tuning from the store's live release to a new one that the gate lets drive, or not.

It runs in a process of its own, beside an edge that drives on; what it makes enters the store.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flad_edge.adapt.scoring import (
    Score,
    drive_digest,
    read_clips,
    read_uploads,
    score,
    score_release,
)
from flad_edge.adapt.store import ReleaseStore
from flad_edge.adapt.tuning import TuneConfig, tune
from flad_edge.adllm.weights import load_adllm, save_adllm
from flad_edge.training.clip_file import FeatureClip

_HELD_BACK_EVERY = 5  # of the uploads, one in so many only tells whether the tuning helped


@dataclass(frozen=True, kw_only=True)
class TuneRun:
    """What went in and what came out."""

    release: str
    """Name of the new one."""
    is_live: bool
    why_not: str
    """What the gate said; empty if it is live, or nobody asked for that."""
    num_clips: int
    """Uploaded clips that were learned from."""
    steps: int
    before: Score
    """Of the live release on the held-out clips."""
    after: Score
    """Of the new one on the same."""
    uploads_before_m: float
    """L1 of uploads that were not learned from; NaN where there were too few."""
    uploads_after_m: float

    def as_json(self) -> Mapping[str, Any]:
        """For ``--json``."""
        return {
            "release": self.release,
            "is_live": self.is_live,
            "why_not": self.why_not,
            "num_clips": self.num_clips,
            "steps": self.steps,
            "error_m": {"before": self.before.error_m, "after": self.after.error_m},
            "by_town_m": {
                town: {"before": self.before.by_town[town], "after": self.after.by_town[town]}
                for town in self.before.by_town
            },
            "uploads_m": {"before": self.uploads_before_m, "after": self.uploads_after_m},
        }


def run_tuning(
    store: ReleaseStore,
    *,
    uploads: Sequence[Path],
    held_out: Sequence[Path],
    replay: Sequence[Path],
    config: TuneConfig,
    margin_m: float | None,
    name: str = "",
    say: Callable[[str], None] = print,
) -> TuneRun:
    """Tune the live release and take the result in.

    Args:
        store: has a live release.
        uploads: folders of clips that vehicles uploaded.
        held_out: folders of clips that nobody learned from.
        replay: folders of clips that the model was trained on.
        config: how long and how hard.
        margin_m: of the gate; None: the new release is scored and does not go live.
        name: of the new release; empty: the live one's and a number.
        say: told of progress.

    Raises:
        ValueError: if there is no live release, or nothing of its encoder to learn from.
    """
    live = store.live()
    if live is None:
        raise ValueError(f"{store.root} has no live release; publish one before it is tuned")
    encoder_hash = live.release.encoder_hash

    def own(clips: Sequence[FeatureClip]) -> list[FeatureClip]:
        return [c for c in clips if c.encoder_hash == encoder_hash]

    learned, told = divided(own(read_uploads(uploads)))
    old = own(read_clips(replay)) if replay else []
    clips = read_clips(held_out)
    model = load_adllm(live.adllm).model
    before = score_release(store, live.release.name, clips).adllm
    uploads_before_m = _error_m(told, model)
    say(
        f"{live.release.name}: L1 {before.error_m:.4f} m on {len(clips)} held-out clips; tuning on "
        f"{len(learned)} uploaded clips and {len(old)} older ones"
    )
    tuned = tune(model, learned, old, config, say=say)
    uploads_after_m = _error_m(told, model)
    name = name or _next_name(store, live.release.name)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "adllm.safetensors"
        save_adllm(path, model, {"tuned_from": live.release.adllm_hash})
        store.add(name, encoder=live.encoder, adllm=path, adm=live.adm, made_by="tuning")
    after = score_release(store, name, clips).adllm
    why_not = ""
    if margin_m is not None:
        try:
            store.publish(name, margin_m=margin_m)
        except ValueError as error:
            why_not = str(error)
            say(why_not)
    return TuneRun(
        release=name,
        is_live=margin_m is not None and not why_not,
        why_not=why_not,
        num_clips=len(learned),
        steps=tuned.steps,
        before=before,
        after=after,
        uploads_before_m=uploads_before_m,
        uploads_after_m=uploads_after_m,
    )


def divided(
    uploads: Sequence[FeatureClip],
) -> tuple[list[FeatureClip], list[FeatureClip]]:
    """Clips to learn from, and about every fifth one to tell by whether it helped.

    A drive is on the same side in every tuning: what one learned from tells nothing of the next.
    """
    told = [c for c in uploads if drive_digest(c)[0] % _HELD_BACK_EVERY == 0]
    learned = [c for c in uploads if drive_digest(c)[0] % _HELD_BACK_EVERY]
    return (learned, told) if learned else (told, [])


def _error_m(clips: Sequence[FeatureClip], model: Any) -> float:
    known = [clip for clip in clips if clip.labelled.any()]
    return score(model, known).error_m if known else float("nan")


def _next_name(store: ReleaseStore, name: str) -> str:
    stem = name.rsplit("-t", 1)[0][:48]
    taken = set(store.names())
    return next(f"{stem}-t{i}" for i in range(1, 10**6) if f"{stem}-t{i}" not in taken)

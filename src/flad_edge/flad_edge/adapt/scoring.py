# SPDX-License-Identifier: Apache-2.0
"""How well a model drives held-out clips: waypoint L1, over all frames and by town.

    E = 1 / (2 P |V|) sum_{f in V} sum_{p, c} |predicted_fpc - known_fpc|

over the frames V whose waypoints are known, as in :mod:`flad_edge.adllm.losses`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from flad_edge.adapt.store import ReleaseStore, StoredRelease
from flad_edge.adllm.clip import ClipBatch
from flad_edge.adllm.model import AdLlm
from flad_edge.adllm.weights import load_adllm
from flad_edge.service.releases import Release
from flad_edge.training.clip_file import FeatureClip, read_clip

_FRAMES_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """What a model reached."""

    error_m: float
    """Waypoint L1 over all known frames."""
    num_frames: int
    by_town: Mapping[str, float]
    """The same within each town; "" holds clips that name none."""


def read_clips(folders: Iterable[Path]) -> list[FeatureClip]:
    """All clips below folders (or single files), in the order of their paths.

    Raises:
        OSError: if a path is not there.
        ValueError: if a file holds no clip, or there is none at all.
    """
    return [read_clip(path) for path in clip_paths(folders)]


def read_uploads(folders: Iterable[Path]) -> list[FeatureClip]:
    """The same of folders in which clips come and go: those that go meanwhile are left out.

    Raises:
        OSError, ValueError: as :func:`read_clips`.
    """
    clips = []
    for path in clip_paths(folders):
        with contextlib.suppress(FileNotFoundError):  # it gave way to a newer one
            clips.append(read_clip(path))
    if not clips:
        raise ValueError("all clips were gone before they were read")
    return clips


def clip_paths(folders: Iterable[Path]) -> list[Path]:
    """Files of clips below folders (or single files), in order.

    Raises:
        OSError: if a path is not there.
        ValueError: if there is none at all.
    """
    paths = []
    for path in folders:
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there; expected a folder of clips")
        paths += [path] if path.is_file() else sorted(path.rglob("*.safetensors"))
    if not paths:
        raise ValueError("there are no clips (*.safetensors) to score on")
    return paths


def clips_hash(clips: Iterable[FeatureClip]) -> str:
    """16 hexadecimal digits that tell sets of drives apart; their order does not matter.

    Tokens have no part in it: the same drives as another encoder sees them are the same drives.
    """
    digests = sorted(drive_digest(clip) for clip in clips)
    return hashlib.sha256(b"".join(digests)).hexdigest()[:16]


def drive_digest(clip: FeatureClip) -> bytes:
    """Tells drives apart, whatever encoder saw them."""
    words = json.dumps([clip.instruction, sorted(clip.notices.items()), clip.num_frames])
    found = hashlib.sha256(words.encode())
    found.update(clip.waypoints_m.tobytes())
    return found.digest()


@torch.no_grad()
def score(model: AdLlm, clips: Sequence[FeatureClip]) -> Score:
    """Drive the clips.

    Args:
        model: in evaluation mode.
        clips: held out: no model that is compared may have learned from them.

    Raises:
        ValueError: if no frame of them has known waypoints, or they have other shapes than the
            model reads.
    """
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    for batch in batches(clips, _FRAMES_AT_ONCE):
        said = model(clip_batch(batch)).waypoints_m.float().cpu()
        for clip, waypoints_m in zip(batch, said, strict=True):
            known = torch.from_numpy(clip.labelled)
            if not bool(known.any()):
                continue
            target = torch.from_numpy(clip.waypoints_m)[known]
            error = (waypoints_m[: clip.num_frames][known] - target).abs().mean(dim=(1, 2))
            town = clip.about.get("town", "")
            sums[town] = sums.get(town, 0.0) + float(error.double().sum())
            counts[town] = counts.get(town, 0) + len(error)
    if not counts:
        raise ValueError(f"none of {len(clips)} clips has a frame whose waypoints are known")
    return Score(
        error_m=sum(sums.values()) / sum(counts.values()),
        num_frames=sum(counts.values()),
        by_town={town: sums[town] / counts[town] for town in sorted(sums)},
    )


def clip_batch(clips: Sequence[FeatureClip]) -> ClipBatch:
    """Clips as the model reads them."""
    tokens = [torch.from_numpy(clip.tokens.astype("float32")) for clip in clips]
    return ClipBatch(
        instructions=tuple(clip.instruction for clip in clips),
        tokens=torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True),
        num_frames=tuple(clip.num_frames for clip in clips),
        notices=tuple(dict(clip.notices) for clip in clips),
    )


def batches(clips: Sequence[FeatureClip], max_frames: int) -> Iterator[list[FeatureClip]]:
    """Clips of similar length together, so that little is padded; at most so many frames."""
    batch: list[FeatureClip] = []
    for clip in sorted(clips, key=lambda c: -c.num_frames):
        if batch and (len(batch) + 1) * batch[0].num_frames > max_frames:
            yield batch
            batch = []
        batch.append(clip)
    if batch:
        yield batch


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseScore:
    """What both models of a release reached on the same clips."""

    adllm: Score
    adm: Score | None


def score_release(
    store: ReleaseStore,
    name: str,
    clips: Sequence[FeatureClip],
    say: Callable[[str], None] = lambda text: None,
) -> ReleaseScore:
    """Score a release, and the live one where it was scored on other clips; write it down.

    Args:
        store: has the release.
        name: of the release.
        clips: held out; of these, each release drives those that its own encoder saw.
        say: told what takes time.

    Raises:
        ValueError: if no clip holds tokens of the release's encoder.
    """
    live, stored = store.live(), store.get(name)
    if live and live.release.name != name:
        others = _of_encoder(live.release, clips)
        if live.release.clips_hash != clips_hash(others):
            say(f"{live.release.name} is live and was scored on other clips: scoring it, too")
            _score_one(store, live, others)
    return _score_one(store, stored, _of_encoder(stored.release, clips))


def _of_encoder(release: Release, clips: Sequence[FeatureClip]) -> list[FeatureClip]:
    found = [clip for clip in clips if clip.encoder_hash == release.encoder_hash]
    if not found:
        raise ValueError(
            f"release {release.name!r} reads tokens of encoder {release.encoder_hash}, the clips "
            f"hold tokens of {', '.join(sorted({c.encoder_hash for c in clips})) or 'none'}: make "
            "them with the release's encoder, too"
        )
    return found


def _score_one(
    store: ReleaseStore, stored: StoredRelease, clips: Sequence[FeatureClip]
) -> ReleaseScore:
    adllm = score(load_adllm(stored.adllm).model, clips)
    adm = score(load_adllm(stored.adm).model, clips) if stored.adm else None
    store.scored(
        stored.release.name,
        error_m=adllm.error_m,
        adm_error_m=adm.error_m if adm else math.nan,
        error_by_town_m=adllm.by_town,
        clips_hash=clips_hash(clips),
    )
    return ReleaseScore(adllm=adllm, adm=adm)

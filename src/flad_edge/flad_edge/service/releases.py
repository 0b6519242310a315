# SPDX-License-Identifier: Apache-2.0
"""Releases: encoder, AD-LLM and ADM that were scored together; the gate, and the history.

Plain data: files are :mod:`flad_edge.adapt.store`'s, scores :mod:`flad_edge.adapt.scoring`'s.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace

_HASH = re.compile(r"[0-9a-f]{16}")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class Release:
    """Three models that belong together, and how well they drive together."""

    name: str
    contract_version: int
    """Of what the tokens mean."""
    num_tokens: int
    token_dim: int
    encoder_hash: str
    adllm_hash: str
    adm_hash: str = ""
    """Empty: this release has no ADM."""
    error_m: float = math.nan
    """Waypoint L1 of the AD-LLM on held-out clips, in metres; NaN: not scored."""
    adm_error_m: float = math.nan
    """The same of the ADM."""
    error_by_town_m: dict[str, float] = field(default_factory=dict)
    """The AD-LLM's within each town of the clips."""
    clips_hash: str = ""
    """Which clips they were; errors of different clips cannot be compared."""
    waypoint_step_s: float = 0.5

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"a release's name is like {_NAME.pattern}, got {self.name[:80]!r}")
        if self.num_tokens < 1 or self.token_dim < 1:
            raise ValueError(
                f"tokens must be at least 1 x 1, got {self.num_tokens} x {self.token_dim}"
            )
        if not (math.isfinite(self.waypoint_step_s) and self.waypoint_step_s > 0.0):
            raise ValueError(f"waypoint_step_s must be positive, got {self.waypoint_step_s}")
        for name in ("encoder_hash", "adllm_hash", "adm_hash", "clips_hash"):
            value, may_be_empty = getattr(self, name), name in ("adm_hash", "clips_hash")
            if not _HASH.fullmatch(value) and not (may_be_empty and not value):
                raise ValueError(f"{name} must be 16 hexadecimal digits, got {value[:80]!r}")


@dataclass(frozen=True, kw_only=True)
class ReleaseHistory:
    """Which releases were live, oldest first; the last one is. Changes return a new history.

    Example:
        >>> tokens = dict(contract_version=1, num_tokens=42, token_dim=64, encoder_hash="0" * 16)
        >>> old = Release(name="a", adllm_hash="a" * 16, error_m=0.50, **tokens)
        >>> new = Release(name="b", adllm_hash="b" * 16, error_m=0.51, **tokens)
        >>> history = ReleaseHistory().published(old, margin_m=0.0).published(new, margin_m=0.02)
        >>> history.live.name, history.rolled_back().live.name
        ('b', 'a')
    """

    releases: tuple[Release, ...] = ()
    withdrawn: tuple[Release, ...] = ()
    """What was rolled back, in that order."""

    @property
    def live(self) -> Release | None:
        """The release that drives; None before the first."""
        return self.releases[-1] if self.releases else None

    def published(self, candidate: Release, *, margin_m: float) -> ReleaseHistory:
        """``candidate`` goes live.

        Raises:
            ValueError: if the gate holds it back, or its name was used before.
        """
        if any(candidate.name == r.name for r in (*self.releases, *self.withdrawn)):
            raise ValueError(f"there has been a release {candidate.name!r}; give it another name")
        if self.live and (why := worse_than(candidate, self.live, margin_m=margin_m)):
            raise ValueError(f"release {candidate.name!r} stays out: {why}")
        return replace(self, releases=(*self.releases, candidate))

    def rolled_back(self) -> ReleaseHistory:
        """The release before goes live again, all three models of it.

        Raises:
            ValueError: if there is none.
        """
        if len(self.releases) < 2:
            raise ValueError(f"nothing to roll back to: {len(self.releases)} release has been live")
        return ReleaseHistory(
            releases=self.releases[:-1], withdrawn=(*self.withdrawn, self.releases[-1])
        )


def worse_than(candidate: Release, live: Release, *, margin_m: float) -> str | None:
    """Why ``candidate`` must not replace ``live``; None if it is not worse by more than a margin.

    It must not be worse in any town either: what is tuned on one may forget another. A release that
    was not scored never passes; nor does one without an ADM where the live one has
    one, because its vehicles count on it when the edge is silent.

    Raises:
        ValueError: if the margin is negative or not finite.
    """
    if not (math.isfinite(margin_m) and margin_m >= 0.0):
        raise ValueError(f"margin_m must be finite and not negative, got {margin_m}")
    if candidate.contract_version != live.contract_version:
        return (
            f"its tokens follow contract {candidate.contract_version}, "
            f"those of the vehicles {live.contract_version}"
        )
    if not math.isfinite(candidate.error_m):
        return f"its error on held-out clips is {candidate.error_m}, it must be a number"
    if math.isfinite(live.error_m) and candidate.clips_hash != live.clips_hash:
        return (
            f"it was scored on clips {candidate.clips_hash or 'unknown'}, {live.name!r} on "
            f"{live.clips_hash or 'unknown'}: score both on the same"
        )
    if live.adm_hash and not candidate.adm_hash:
        return f"it has no ADM, and vehicles hold that of {live.name!r} to fall back on"
    if candidate.adm_hash and not math.isfinite(candidate.adm_error_m):
        return f"its ADM's error on held-out clips is {candidate.adm_error_m}, it must be a number"
    by_town = [
        (f"error in {town}", candidate.error_by_town_m[town], live.error_by_town_m[town])
        for town in sorted(live.error_by_town_m.keys() & candidate.error_by_town_m.keys())
    ]
    for what, new_m, old_m in (
        ("error", candidate.error_m, live.error_m),
        ("ADM's error", candidate.adm_error_m, live.adm_error_m),
        *by_town,
    ):
        if math.isfinite(old_m) and math.isfinite(new_m) and new_m > old_m + margin_m:
            return (
                f"its {what} on held-out clips is {new_m:.4g} m, allowed are "
                f"{old_m:.4g} + {margin_m:g} m"
            )
    return None

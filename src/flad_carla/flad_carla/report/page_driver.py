# SPDX-License-Identifier: Apache-2.0
"""What the page says of a language driver: who drove for how long, and how fast it answered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from flad_carla.report.run_file import RunRecord

_WORDS = {"adllm": "AD-LLM", "adm": "ADM", "nobody": "nobody"}


def driver_cards(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """One card, or none where nobody drove by words."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for run in runs:
        for who, driven in driven_s(run).items():
            seconds[who] += driven
    total_s = sum(seconds.values())
    if not total_s:
        return []
    (most, most_s), *others = sorted(seconds.items(), key=lambda item: -item[1])
    notes = [f"{100.0 * s / total_s:.1f} % {_WORDS.get(who, who)}" for who, s in others]
    answers_s = np.concatenate([run.ego["answer"] for run in runs])
    answers_s = answers_s[np.isfinite(answers_s)]
    if answers_s.size:
        p50, p99 = np.percentile(answers_s, [50, 99])
        notes.append(f"answers in {1e3 * p50:.0f} ms, 99 % within {1e3 * p99:.0f} ms")
    return [
        {
            "name": f"Driven by {_WORDS.get(most, most)}",
            "value": f"{100.0 * most_s / total_s:.1f}",
            "unit": "%",
            "note": ", ".join(notes),
        }
    ]


def driven_s(run: RunRecord) -> dict[str, float]:
    """Simulated seconds by who drove: adllm, adm, nobody."""
    track = run.texts.get("driver", ())
    times = run.ego["t"]
    end_s = float(times[-1]) if times.size else 0.0
    seconds: defaultdict[str, float] = defaultdict(float)
    for i, (start_s, text) in enumerate(track):
        until_s = track[i + 1][0] if i + 1 < len(track) else end_s
        if text:
            seconds[text.partition(":")[0]] += until_s - start_s
    return dict(seconds)

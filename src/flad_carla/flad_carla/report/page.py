# SPDX-License-Identifier: Apache-2.0
"""The report as one HTML file that needs no network."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from flad_carla.report.page_data import kind_label, pack_runs
from flad_carla.report.page_driver import driver_cards
from flad_carla.report.page_perception import encoder_words
from flad_carla.report.run_file import RunRecord, load_runs
from flad_carla.report.summary import Spread, Summary, driven_m, summarize

MAX_BYTES = 9_500_000  # a mail attachment, and quick to open
_SCRIPTS = ("data.js", "map.js", "curves.js", "sight.js", "sight_curves.js", "player.js", "main.js")


def write_report(
    run_dir: Path, out: Path, *, num_requested: int | None = None, before: str = ""
) -> Path:
    """Draw every run file in ``run_dir`` into the page ``out``, whole or not at all.

    Args:
        run_dir: where :class:`flad_carla.report.collect.RunCollector` wrote.
        out: the HTML file.
        num_requested: routes times repetitions that were asked for; missing runs count as zero.
        before: HTML of a section about what came before the runs; taken as it is.

    Raises:
        RunFileError: if there is no run file, or one cannot be read.
    """
    html = render_page(load_runs(run_dir), num_requested=num_requested, before=before)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(html, encoding="utf-8")
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    return out


def render_page(
    runs: Sequence[RunRecord],
    *,
    num_requested: int | None = None,
    max_bytes: int = MAX_BYTES,
    before: str = "",
) -> str:
    """Render runs as HTML of about ``max_bytes`` at most: camera pictures are thinned to fit.

    Raises:
        ValueError: if there is no run.
    """
    summary = summarize(runs, num_requested)
    titles = [_title(run, summary) for run in runs]
    files = resources.files("flad_carla.report.web")
    script = "\n".join((files / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    style = (files / "style.css").read_text(encoding="utf-8")
    used = len(script) + len(style) + len(before) + 20_000
    data = pack_runs(runs, titles, max_bytes - used)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string((files / "template.html").read_text(encoding="utf-8"))
    info = runs[0].info
    return template.render(
        driver=info.driver,
        towns=_joined([run.info.town for run in runs]),
        summary=summary,
        facts=_facts(runs, summary),
        cards=_cards(runs, summary),
        before=Markup(before),
        rows=[_row(run) for run in runs],
        footer=_footer(summary, info.protocol),
        style=Markup(style),
        script=Markup(script),
        data=Markup(
            json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
        ),
    )


def _facts(runs: Sequence[RunRecord], summary: Summary) -> list[tuple[str, str]]:
    infos = [run.info for run in runs]
    facts = [
        ("Protocol", _joined([info.protocol for info in infos])),
        ("Driver", _joined([info.driver for info in infos])),
        ("Driving model", _joined([info.driver_model for info in infos])),
        ("Encoder", _joined([encoder_words(run.perception) for run in runs])),
        ("Seed", _joined([str(info.seed) for info in infos])),
        ("Runs", f"{summary.num_runs} of {summary.num_requested}"),
        ("Commit", _joined([info.commit[:12] for info in infos])),
        ("Started", min(info.started for info in infos).replace("T", " ")[:19]),
    ]
    return [(name, value) for name, value in facts if value]


def _cards(runs: Sequence[RunRecord], summary: Summary) -> list[dict[str, Any]]:
    ratio = summary.duration_s / summary.duration_system_s if summary.duration_system_s else 0.0
    kinds = Counter[str]()
    for run in runs:
        kinds.update({kind: len(events) for kind, events in run.result.infractions.items()})
    worst = ", ".join(f"{n} \u00d7 {kind_label(k).lower()}" for k, n in kinds.most_common(2) if n)
    cards: list[dict[str, Any]] = [
        {**_score_card("Driving score", summary.driving_score, 100.0, summary), "lead": True},
        _score_card("Route completion", summary.route_completion, 100.0, summary, unit="%"),
        _score_card("Infraction penalty", summary.infraction_penalty, 1.0, summary, digits=3),
        {
            "name": "Infractions",
            "value": str(summary.num_infractions),
            "unit": f"{summary.infractions_per_km:.2f} / km",
            "note": worst or "a clean sheet",
        },
        {
            "name": "Driven",
            "value": f"{summary.driven_km:.2f}",
            "unit": "km",
            "note": f"in {summary.num_runs} run{'s' if summary.num_runs != 1 else ''}",
        },
        {
            "name": "Duration",
            "value": _clock(summary.duration_s),
            "unit": "simulated",
            "note": f"{_clock(summary.duration_system_s)} on the wall, {ratio:.2f} \u00d7 real time"
            if ratio
            else "",
        },
    ]
    if by_words := driver_cards(runs):  # in place of the distance, which every row has
        cards = [card for card in cards if card["name"] != "Driven"] + by_words
    optional: dict[str, Any] = {"lead": False, "dots": (), "band": None}
    return [optional | card for card in cards]


def _score_card(
    name: str, spread: Spread, top: float, summary: Summary, *, unit: str = "", digits: int = 1
) -> dict[str, Any]:
    def place(value: float) -> float:
        return round(4.0 + 192.0 * min(1.0, max(0.0, value / top)), 1)

    card: dict[str, Any] = {
        "name": name,
        "value": f"{spread.mean:.{digits}f}",
        "unit": unit,
        "dots": [place(value) for value in spread.values],
        "dots_label": f"{name} of {len(spread.values)} {summary.over}: "
        + ", ".join(f"{value:.{digits}f}" for value in spread.values[:20]),
        "note": "one run",
    }
    if spread.std is not None:
        low, high = place(spread.mean - spread.std), place(spread.mean + spread.std)
        card["band"] = (low, round(high - low, 1))
        card["unit"] = f"{unit} ± {spread.std:.{digits}f}".strip()
        card["note"] = f"mean ± s.d. over {len(spread.values)} {summary.over}"
    return card


def _row(run: RunRecord) -> dict[str, Any]:
    result = run.result
    num = sum(len(events) for events in result.infractions.values())
    failed = result.status.startswith("Failed")
    return {
        "name": _route_name(run),
        "town": run.info.town,
        "repetition": run.info.repetition,
        "status": result.status.removeprefix("Failed - ").capitalize() if failed else result.status,
        "mood": "bad" if failed else "fair" if num else "good",
        "driving_score": round(result.driving_score, 2),
        "completion": result.route_completion,
        "penalty": result.infraction_penalty,
        "infractions": [
            (kind_label(kind), len(events)) for kind, events in result.infractions.items() if events
        ],
        "driven_m": driven_m(run),
        "duration": _clock(result.duration_s),
    }


def _title(run: RunRecord, summary: Summary) -> str:
    tail = f", repetition {run.info.repetition}" if summary.over == "repetitions" else ""
    return f"{_route_name(run)}{tail}"


def _route_name(run: RunRecord) -> str:
    """The route's id, as a person says it: the leaderboard's prefix and suffix left out."""
    name = run.info.route_id.removesuffix(f"_rep{run.info.repetition}")
    number = name.removeprefix("RouteScenario_")
    return f"Route {number}" if number.isdigit() else number or name


def _footer(summary: Summary, protocol: str) -> str:
    return (
        f"Driving score is the mean over {summary.num_requested} runs of completion \u00d7 penalty "
        f"({protocol} coefficients); a run that is missing counts as zero. Infractions per km are "
        "counts over driven route kilometres. Places are in CARLA's world frame "
        "(x right, y down on these maps)."
    )


def _joined(words: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(word for word in words if word))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d}"

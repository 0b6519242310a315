# SPDX-License-Identifier: Apache-2.0
"""A federation as HTML: a section of the demo's report, or a page of its own."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from importlib import resources
from pathlib import Path

from flad_bringup.federate.map_picture import map_picture
from flad_bringup.federate.picture import picture, stage_color
from flad_bringup.federate.story import Story, tell

_MIB = 2**20
_TITLE = "Trained together"


def write_page(folder: Path, out: Path) -> None:
    """Draw the federation in ``folder`` as a page that needs no network.

    Raises:
        OSError, ValueError: see :func:`flad_bringup.federate.story.tell`.
    """
    style = (resources.files("flad_carla.report.web") / "style.css").read_text(encoding="utf-8")
    section = section_html(tell(folder))
    out.write_text(
        f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" content="light">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{_TITLE}</title><style>{style}</style></head>
<body><main class="wrap">{section}</main></body></html>
""",
        encoding="utf-8",
    )


def section_html(story: Story) -> str:
    """What the federation did: figures, the picture, vehicles, rounds."""
    cards = "".join(
        f'<div class="card"><h2>{escape(name)}</h2><p class="figure">{escape(value)}'
        f'<small>{escape(unit)}</small></p><p class="note">{escape(note)}</p></div>'
        for name, value, unit, note in _cards(story)
    )
    return f"""<section aria-labelledby="federation-title">
<h2 id="federation-title">{_TITLE}</h2>
<p class="note">{escape(_words(story))}</p>
<div class="cards" style="margin:12px 0">{cards}</div>
<figure class="panel"><figcaption><h3>Who trained what, and when</h3><span>{_key(story)}</span>
</figcaption>{picture(story)}</figure>{_map(story)}
<div class="tablebox" style="margin-top:12px"><table>{_vehicles(story)}</table></div>
<div class="tablebox" style="margin-top:12px"><table>{_rounds(story)}</table></div>
</section>"""


def _map(story: Story) -> str:
    """Where the vehicles were, if they said it."""
    drawn = map_picture(story)
    if drawn is None:
        return ""
    return (
        '<figure class="panel" style="margin-top:12px"><figcaption><h3>Who trained with whom, and '
        f"where</h3><span>round {drawn.round} as it began; numbers are stages of each cluster's "
        f"first pipeline, the dashed circle holds everybody</span></figcaption>{drawn.svg}</figure>"
    )


def _words(story: Story) -> str:
    count = len(story.vehicles)
    return (
        f"{count} vehicles, each a process of its own, trained the encoder over DDS for "
        f"{story.seconds:.0f} s (their start included) on what they had recorded; no frame and no "
        f"label left a vehicle. The result is model {story.encoder_hash}."
    )


def _cards(story: Story) -> Iterator[tuple[str, str, str, str]]:
    yield (
        "Throughput",
        f"{story.samples_per_s:.1f}",
        "samples / s",
        "over all rounds, recoveries included",
    )
    if losses := story.losses():
        yield (
            "Loss",
            f"{losses[1]:.3f}",
            "",
            f"mean of the last quarter of steps; {losses[0]:.3f} in the first",
        )
    for upset in story.upsets:
        if upset.kind == "kill" and upset.again_s is not None:
            yield (
                f"{upset.who} killed",
                f"{upset.again_s - upset.at_s:.2f}",
                "s",
                f"to the next step of all who were left; {upset.lost_steps} steps taken again",
            )
    yield "Rotations", str(story.rotations), "", "turns of another vehicle to feed its own data"
    steps = {(s.round, s.step) for s in story.steps if s.loss is not None}
    yield "Steps", str(len(steps)), "", f"of {story.samples_per_step} samples"


def _key(story: Story) -> str:
    stages = sorted({s.stage for s in story.steps if s.stage >= 0})
    names = ["stage 1: own data, heads and loss", *(f"stage {n + 1}" for n in stages if n)]
    return "".join(
        f'<i style="display:inline-block;width:11px;height:11px;border-radius:3px;'
        f'margin:0 5px 0 14px;background:{stage_color(n)}"></i>{escape(name)}'
        for n, name in zip(stages, names, strict=False)
    )


def _vehicles(story: Story) -> str:
    rows = []
    for name, facts in story.vehicles.items():
        own = [s for s in story.steps if s.vehicle == name]
        fed = sum(s.loss is not None for s in own)
        stages = ", ".join(str(n + 1) for n in sorted({s.stage for s in own if s.stage >= 0}))
        killed = [u for u in story.upsets if u.who == name and u.kind == "kill"]
        fate = (
            f"killed at {killed[0].at_s - story.first_s:.0f} s" if killed else "trained to the end"
        )
        rows.append(
            [
                name,
                str(facts["device"]),
                f"{facts['available_bytes'] / _MIB:.0f} MiB",
                f"{facts['most_resident_bytes'] / _MIB:.0f} MiB",
                str(len(own)),
                str(fed),
                stages,
                fate,
            ]
        )
    heads = [
        *("Vehicle", "Emulates", "Memory for training", "Process, at most", "Steps"),
        *("On its own data", "Stages", ""),
    ]
    return _table(heads, rows)


def _rounds(story: Story) -> str:
    rows = []
    for one in story.rounds:
        turns = [t for t in story.turns if t.round == one["round"]]
        clusters = "; ".join(
            "then ".join(dict.fromkeys(_pipelines(t.pipelines) for t in turns if t.client == name))
            for name in dict.fromkeys(t.client for t in turns)
        )
        rows.append(
            [
                str(one["round"]),
                f"{one['report']['seconds']:.0f} s",
                str(one["num_samples"]),
                ", ".join(one["report"]["counted"]) or "nobody",
                clusters,
                one["model_hash"],
            ]
        )
    heads = ["Round", "Time", "Samples", "Counted", "Pipelines, each vehicle first once", "Model"]
    return _table(heads, rows)


def _pipelines(pipelines: tuple[tuple[str, ...], ...]) -> str:
    return " | ".join(" → ".join(_number(name) for name in line) for line in pipelines) + " "


def _number(name: str) -> str:
    return name.removeprefix("vehicle_")


def _table(heads: list[str], rows: list[list[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = "".join(
        "<tr>"
        + f'<th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(text)}</td>" for text in row[1:])
        + "</tr>"
        for row in rows
    )
    return f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"

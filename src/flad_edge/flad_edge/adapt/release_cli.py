# SPDX-License-Identifier: Apache-2.0
"""``./flad release``: take a triple in, score it, tune it, let it drive, take it back."""

from __future__ import annotations

import argparse
import importlib
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from flad_common.config import from_yaml
from flad_edge.adapt.make_clips import PARTS, clips_of_recordings
from flad_edge.adapt.scoring import Score, read_clips, score_release
from flad_edge.adapt.store import ReleaseStore
from flad_edge.adapt.tune_run import run_tuning
from flad_edge.adapt.tuning import TuneConfig
from flad_edge.service.releases import Release

DEFAULT_STORE = Path("runs/releases")
DEFAULT_MARGIN_M = 0.02


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the verbs; returns the exit status."""
    args = build_parser().parse_args(argv)
    try:
        return int(args.verb(args, ReleaseStore(args.store)))
    except (OSError, ValueError, FloatingPointError) as error:
        print(f"flad: {error}", file=sys.stderr)
        return 1


def build_parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    parser = argparse.ArgumentParser(
        prog="./flad release",
        description="Encoder, AD-LLM and ADM that go live, and back, together.",
    )
    parser.add_argument(
        "--store", type=Path, default=DEFAULT_STORE, help="its folder (default: %(default)s)"
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    one = verbs.add_parser("list", help="every release, which one is live, and what was live")
    one.set_defaults(verb=_list)

    one = verbs.add_parser("add", help="take a triple in; it is not live")
    one.add_argument("name", help="of the release; never used before")
    one.add_argument("--encoder", type=Path, required=True, metavar="FILE")
    one.add_argument("--adllm", type=Path, required=True, metavar="FILE")
    one.add_argument("--adm", type=Path, metavar="FILE")
    one.set_defaults(verb=_add)

    one = verbs.add_parser("score", help="drive held-out clips with a release")
    one.add_argument("name", nargs="+")
    one.add_argument("--clips", type=Path, nargs="+", required=True, metavar="DIR")
    one.set_defaults(verb=_score)

    one = verbs.add_parser("publish", help="let a release drive, if the gate lets it")
    one.add_argument("name")
    one.add_argument(
        "--margin-m",
        type=float,
        default=DEFAULT_MARGIN_M,
        help="that its errors may be above the live one's (default: %(default)s)",
    )
    _add_edge_arguments(one)
    one.set_defaults(verb=_publish)

    one = verbs.add_parser("clips", help="make clips out of recordings, for the gate or for replay")
    one.add_argument("--data", type=Path, nargs="+", required=True, metavar="ROOT")
    one.add_argument("--encoder", default="small", help="a name or FILE (default: %(default)s)")
    one.add_argument("--features", type=Path, required=True, metavar="DIR", help="cache of tokens")
    one.add_argument(
        "--training", default="tiny", help="whose held-out towns and weathers (%(default)s)"
    )
    one.add_argument("--part", nargs="+", choices=PARTS, default=["weathers", "towns"])
    one.add_argument("--towns", nargs="+", default=[], help="only these")
    one.add_argument("--leave-out", nargs="+", default=[], metavar="TEXT", help="runs named so")
    one.add_argument("--only", nargs="+", default=[], metavar="TEXT", help="only runs named so")
    one.add_argument("--out", type=Path, required=True, metavar="DIR")
    one.set_defaults(verb=_clips)

    one = verbs.add_parser("tune", help="LoRA on the live release, by what vehicles uploaded")
    one.add_argument("--uploads", type=Path, nargs="+", required=True, metavar="DIR")
    one.add_argument(
        "--clips", type=Path, nargs="+", required=True, metavar="DIR", help="held out, for the gate"
    )
    one.add_argument(
        "--replay",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="clips it was trained on, so that it does not forget",
    )
    one.add_argument("--config", type=Path, metavar="FILE", help="YAML of TuneConfig's knobs")
    one.add_argument("--name", default="", help="of the new release (default: live one's and -tN)")
    one.add_argument(
        "--publish",
        type=float,
        nargs="?",
        const=DEFAULT_MARGIN_M,
        metavar="MARGIN_M",
        help="let it drive if the gate lets it (margin when none is given: %(const)s)",
    )
    one.add_argument("--threads", type=int, default=0, help="of torch; 0: its own choice")
    one.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    one.set_defaults(verb=_tune)

    one = verbs.add_parser("rollback", help="let the release before drive again")
    _add_edge_arguments(one)
    one.set_defaults(verb=_roll_back)
    return parser


def _add_edge_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--edge",
        action="store_true",
        help="tell the running edge node of this store, and wait until it drives on the release",
    )
    parser.add_argument(
        "--deadline-s", type=float, default=60.0, help="for that (default: %(default)s)"
    )


def _list(args: argparse.Namespace, store: ReleaseStore) -> int:
    history = store.history()
    live = history.live.name if history.live else ""
    if not store.names():
        print(f"{args.store} has no releases")
    for name in store.names():
        state = "live" if name == live else "stored"
        if name in {r.name for r in history.withdrawn}:
            state = "withdrawn"
        elif state == "stored" and name in {r.name for r in history.releases}:
            state = "before"
        print(f"{state:10} {_line(store.get(name).release)}")
    for event in store.log()[-10:]:
        more = {k: v for k, v in event.items() if k not in ("time", "event", "release")}
        said = ", ".join(f"{key} {value}" for key, value in more.items())
        print(f"  {event['time']}  {event['event']} {event['release']}  {said}")
    return 0


def _add(args: argparse.Namespace, store: ReleaseStore) -> int:
    stored = store.add(args.name, encoder=args.encoder, adllm=args.adllm, adm=args.adm)
    print(f"stored     {_line(stored.release)}")
    return 0


def _score(args: argparse.Namespace, store: ReleaseStore) -> int:
    clips = read_clips(args.clips)
    for name in args.name:
        found = score_release(store, name, clips, say=print)
        print(_line(store.get(name).release))
        for what, one in (("AD-LLM", found.adllm), ("ADM", found.adm)):
            if one is not None:
                print(f"  {what:7} {_towns(one)}")
    return 0


def _publish(args: argparse.Namespace, store: ReleaseStore) -> int:
    history = store.publish(args.name, margin_m=args.margin_m)
    assert history.live
    print(f"live       {_line(history.live)}")
    return _tell_edge(args, history.live)


def _roll_back(args: argparse.Namespace, store: ReleaseStore) -> int:
    history = store.roll_back()
    assert history.live
    print(f"withdrawn  {history.withdrawn[-1].name}")
    print(f"live       {_line(history.live)}")
    return _tell_edge(args, history.live)


def _clips(args: argparse.Namespace, store: ReleaseStore) -> int:
    number = clips_of_recordings(
        args.data,
        args.out,
        encoder=args.encoder,
        features=args.features,
        training=args.training,
        parts=args.part,
        towns=args.towns,
        leave_out=args.leave_out,
        only=args.only,
    )
    print(f"{number} clips in {args.out}")
    return 0


def _tune(args: argparse.Namespace, store: ReleaseStore) -> int:
    if args.threads:
        torch.set_num_threads(args.threads)
    found = run_tuning(
        store,
        uploads=args.uploads,
        held_out=args.clips,
        replay=args.replay,
        config=from_yaml(TuneConfig, args.config) if args.config else TuneConfig(),
        margin_m=args.publish,
        name=args.name,
        say=lambda text: print(text, flush=True),
    )
    print(_line(store.get(found.release).release))
    for town, before_m in found.before.by_town.items():
        print(f"  {town or '?'}: {before_m:.4f} m before, {found.after.by_town[town]:.4f} m after")
    print(
        f"  uploads not learned from: {found.uploads_before_m:.4f} m before, "
        f"{found.uploads_after_m:.4f} m after"
    )
    print(
        f"{'live' if found.is_live else 'not live'}{': ' if found.why_not else ''}{found.why_not}"
    )
    if args.json:
        args.json.write_text(json.dumps(found.as_json(), indent=2) + "\n", encoding="utf-8")
    return 0


def _tell_edge(args: argparse.Namespace, release: Release) -> int:
    if not args.edge:
        return 0
    # ROS only where a node is to be told; the store alone needs none.
    client: Any = importlib.import_module("flad_edge.ros.release_client")
    said = client.serve_live(release.name, deadline_s=args.deadline_s)
    print(said)
    return 0


def _line(release: Release) -> str:
    models = f"encoder {release.encoder_hash}  AD-LLM {release.adllm_hash}"
    models += f"  ADM {release.adm_hash}" if release.adm_hash else "  no ADM"
    return f"{release.name:24} {models}  {_errors(release)}"


def _errors(release: Release) -> str:
    if not math.isfinite(release.error_m):
        return "not scored"
    text = f"L1 {release.error_m:.4f} m"
    if math.isfinite(release.adm_error_m):
        text += f", ADM {release.adm_error_m:.4f} m"
    return f"{text} on clips {release.clips_hash}"


def _towns(found: Score) -> str:
    towns = "  ".join(f"{town or '?'} {error_m:.4f}" for town, error_m in found.by_town.items())
    return f"L1 {found.error_m:.4f} m on {found.num_frames} frames: {towns}"


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""``./flad release``: take a triple in, score it, let it drive, take it back."""

from __future__ import annotations

import argparse
import importlib
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flad_edge.adapt.scoring import Score, read_clips, score_release
from flad_edge.adapt.store import ReleaseStore
from flad_edge.service.releases import Release

DEFAULT_STORE = Path("runs/releases")
DEFAULT_MARGIN_M = 0.02


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the verbs; returns the exit status."""
    args = build_parser().parse_args(argv)
    try:
        return int(args.verb(args, ReleaseStore(args.store)))
    except (OSError, ValueError) as error:
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

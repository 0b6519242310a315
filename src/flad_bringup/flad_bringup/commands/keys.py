# SPDX-License-Identifier: Apache-2.0
"""Keys of the vehicles that train: made on the vehicle, enrolled at the edge by its operator.

On the vehicle: ./flad keys new --out ~/.flad/vehicle.pem prints its public key.
At the edge: ./flad keys enrol vehicle_3 PUBLICKEY; updates of others are refused from then on.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from flad_bringup.commands.figures import add_json_argument, write_json

if TYPE_CHECKING:
    from flad_pipeline.aggregation.keys import KeyRing

SUMMARY = "keys of vehicles that train: new, public, enrol, revoke, list"
NEEDS = ("vehicle",)

_RING = Path("runs/edge/vehicle_keys.yaml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    jobs = parser.add_subparsers(dest="job", metavar="JOB", required=True)
    new = jobs.add_parser("new", help="make a vehicle's private key; prints the public one")
    new.add_argument("--out", type=Path, required=True, metavar="FILE", help="where it is kept")
    public = jobs.add_parser("public", help="print the public key of a private one")
    public.add_argument("file", type=Path, metavar="FILE", help="the private key")
    enrol = jobs.add_parser("enrol", help="let a vehicle's updates in")
    enrol.add_argument("vehicle", help="its name, such as vehicle_3")
    enrol.add_argument("key", metavar="PUBLICKEY", help="as `./flad keys new` printed it")
    revoke = jobs.add_parser("revoke", help="refuse a vehicle's updates from now on")
    revoke.add_argument("vehicle", help="its name")
    listed = jobs.add_parser("list", help="who is enrolled")
    for one in (enrol, revoke, listed):
        one.add_argument(
            "--ring",
            type=Path,
            metavar="FILE",
            help=f"the edge's ring of keys (default: {_RING} of this checkout)",
        )
    add_json_argument(listed)


def run(args: argparse.Namespace) -> int:
    """Do one of the jobs."""
    # Imported now: they need what set-up installs.
    from flad_pipeline.aggregation.keys import KeyRing, VehicleKey, decode_public, encode_public

    if args.job in ("new", "public"):
        key = VehicleKey.generate() if args.job == "new" else VehicleKey.load(args.file)
        if args.job == "new":
            key.save(args.out)
        print(encode_public(key.public))
        return 0
    path: Path = args.ring or args.workspace.root / _RING
    ring = KeyRing.load(path)
    today = datetime.date.today().isoformat()
    if args.job == "list":
        print(_table(ring) or f"nobody is enrolled in {path}")
        write_json(args.json, {name: dataclasses.asdict(key) for name, key in ring.keys.items()})
        return 0
    if args.job == "enrol":
        ring = ring.enrol(args.vehicle, decode_public(args.key), today=today)
    else:
        ring = ring.revoke(args.vehicle, today=today)
    ring.save(path)
    done = "enrolled" if args.job == "enrol" else "revoked"
    print(f"{args.vehicle} is {done} in {path}")
    return 0


def _table(ring: KeyRing) -> str:
    lines = []
    for name in sorted(ring.keys):
        key = ring.keys[name]
        state = f"revoked {key.revoked}" if key.revoked else f"enrolled {key.enrolled}"
        lines.append(f"{name:16} {key.public_key}  {state}")
    return "\n".join(lines)

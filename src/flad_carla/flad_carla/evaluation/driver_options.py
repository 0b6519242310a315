# SPDX-License-Identifier: Apache-2.0
"""Options of a drive on a language model, for every command that drives."""

from __future__ import annotations

import argparse
from pathlib import Path

from flad_carla.evaluation.driving_models import OFF, check_encoder, model_file, shipped_models
from flad_carla.evaluation.language_driver import (
    FRAME_PERIOD_S,
    LANGUAGE_DRIVERS,
    SPLITS,
    EdgeLossWindow,
    LanguageDriver,
)
from flad_carla.evaluation.processes import EncoderOption
from flad_perception.weights_header import model_config, model_hash_of

NO_ENCODER, _SHIPPED = "off", "small"
_ADLLM, _ADM = "tiny", "adm"


def add_language_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add(
        "--adllm",
        metavar="NAME",
        help="the AD-LLM for the edge: a shipped model or a .safetensors file (default: tiny)",
    )
    add(
        "--adm",
        metavar="NAME",
        help="the ADM on the vehicle, a shipped model or a .safetensors file: drives with --driver "
        "adm, else is what adllm falls back on, or off (default: adm, where it is shipped)",
    )
    add(
        "--phrasings",
        choices=list(SPLITS),
        default="trained",
        help="words of the instructions: those of training, or those held out of it (default: "
        "%(default)s)",
    )
    add("--notice", action="store_true", help="warn the driver of lights, people and the like")
    add(
        "--instruction",
        default="",
        metavar="TEXT",
        help="an operator's instruction all the way, in place of the route's own",
    )
    add(
        "--wrong-turns",
        action="store_true",
        help="tell another way than the route's at every junction that has one: does the driver "
        "do what it is told?",
    )
    add(
        "--edge-loss",
        metavar="T0:T1",
        help="kill the edge T0 seconds into every route and start it again at T1",
    )


def add_encoder_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the encoder's options."""
    add = parser.add_argument
    add(
        "--encoder",
        default=NO_ENCODER,
        metavar="NAME",
        help="run a vision encoder beside the planner: off, a shipped model such as small, or a "
        ".safetensors file; without --rig it gets its cameras (default: %(default)s; a language "
        "driver needs one: small)",
    )
    add(
        "--encoder-period",
        type=float,
        metavar="S",
        help="simulated time between two ticks that are encoded (default: 0.1; for a language "
        "driver 0.2, its models' own)",
    )
    add(
        "--encoder-wire",
        choices=["fp16", "int8", "fp32"],
        default="fp16",
        help="how tokens are written (default: %(default)s)",
    )


def add_monitor_argument(parser: argparse.ArgumentParser) -> None:
    """Declare the option."""
    parser.add_argument(
        "--collision-monitor",
        choices=["on", "off"],
        help="slow down for road users that the encoder detects in the plan's path, whoever drives "
        "(default: on for language drivers, off for others)",
    )


def is_monitored(args: argparse.Namespace) -> bool:
    """Whether the planner's collision monitor is asked for."""
    if args.collision_monitor is None:
        return args.driver in LANGUAGE_DRIVERS
    return bool(args.collision_monitor == "on")


def encoder_option(args: argparse.Namespace) -> EncoderOption | None:
    """The encoder that is asked for; None: none.

    Raises:
        ValueError: if there is no such model.
    """
    is_needed = args.driver in LANGUAGE_DRIVERS
    if args.encoder == NO_ENCODER and not is_needed:
        return None
    model = _SHIPPED if args.encoder == NO_ENCODER else args.encoder
    model_config(model)  # a name that is none ends here, not on the first route
    usual_s = FRAME_PERIOD_S if is_needed else EncoderOption.period_s
    return EncoderOption(
        model=model, period_s=args.encoder_period or usual_s, wire=args.encoder_wire
    )


def language_option(
    args: argparse.Namespace, encoder: EncoderOption | None
) -> LanguageDriver | None:
    """The language driver that is asked for; None where another drives.

    Raises:
        ValueError: if they do not go together.
    """
    if args.driver not in LANGUAGE_DRIVERS:
        for name in ("adllm", "adm", "instruction", "edge_loss", "notice", "wrong_turns"):
            if getattr(args, name):
                raise ValueError(
                    f"--{name.replace('_', '-')} needs a driver that is told something: --driver "
                    f"{' or '.join(LANGUAGE_DRIVERS)}, got --driver {args.driver}"
                )
        return None
    assert encoder is not None, "a language driver has one"
    encoder_hash = model_hash_of(encoder.model)
    adllm = None if args.driver == "adm" else model_file("--adllm", args.adllm or _ADLLM)
    adm = _adm(args)
    for path in filter(None, (adllm, adm)):
        check_encoder(path, encoder.model, encoder_hash)
    return LanguageDriver(
        who=args.driver,
        encoder_hash=encoder_hash,
        adllm=adllm,
        adm=adm,
        phrasings=args.phrasings,
        notice=args.notice,
        instruction=args.instruction,
        wrong_turns=args.wrong_turns,
        edge_loss=EdgeLossWindow.parse(args.edge_loss) if args.edge_loss else None,
    )


def _adm(args: argparse.Namespace) -> Path | None:
    """What drives on the vehicle; None: nothing."""
    if args.driver == "adm":
        return model_file("--adm", args.adm or _ADM)
    if args.driver == "blind" or args.adm == OFF:
        return None
    if args.adm is None and _ADM not in shipped_models():
        return None
    return model_file("--adm", args.adm or _ADM)

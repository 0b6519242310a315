# SPDX-License-Identifier: Apache-2.0
"""A trained encoder at work: checked when it is loaded, then one frame after the other."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch

from flad_common.config import knob
from flad_common.error_codes import MODEL_REFUSED, FladError
from flad_perception.batch import LIGHT_RED
from flad_perception.config import CONTRACT_VERSION, EncoderConfig, load_encoder_config
from flad_perception.detections import decode_detections
from flad_perception.live_input import encoder_input
from flad_perception.live_sensors import LiveSensors
from flad_perception.model.encoder import EncoderOutput, VisionEncoder, encode
from flad_perception.scene_output import SceneOutput
from flad_perception.weights import load_encoder, shipped_weights


class Placed(Protocol):
    """Runs a model elsewhere, several frames at a time perhaps."""

    def submit(self, *args: Any, **kwargs: Any) -> None:
        """Begin with what the model would be called with."""
        ...

    def result(self) -> Any:
        """What the model gives for the earliest frame that was not asked for yet.

        Raises:
            FladError: if that frame is lost; the following ones are asked for all the same.
        """
        ...

    def close(self) -> None:
        """Let go of the others that run it."""
        ...


Place = Callable[[VisionEncoder, str], Placed]
"""Where a model runs: given it and its hash, who runs it in its place."""

_STOP = 1  # class of the stop sign head


@dataclass(frozen=True, kw_only=True)
class SceneEncoderConfig:
    """Which model, where it runs, and what it must be."""

    model: str = knob("small", unit="", doc="A .safetensors file, or the name of a shipped model.")
    expected_model_hash: str = knob(
        "", unit="", doc="The model's hash must begin with it; empty allows any."
    )
    expected_config: str = knob(
        "",
        unit="",
        doc="The model's configuration must equal this one (a name in config/encoder, or a file); "
        "empty allows any.",
    )
    expected_contract_version: int = knob(
        CONTRACT_VERSION, unit="1", doc="The tokens' contract must be this."
    )
    device: Literal["auto", "cpu", "cuda"] = knob(
        "auto", unit="", doc="Where it runs; auto takes CUDA where it is."
    )
    num_threads: int = knob(
        2, unit="1", doc="Of PyTorch on the CPU; the same number gives the same bits."
    )
    score_threshold: float = knob(0.3, unit="1", doc="Boxes that are less sure are left out.")

    def __post_init__(self) -> None:
        if self.num_threads < 1:
            raise ValueError(f"num_threads must be at least 1, got {self.num_threads}")
        if not 0.0 < self.score_threshold < 1.0:
            raise ValueError(f"score_threshold must be in (0, 1), got {self.score_threshold}")


@dataclass(frozen=True, slots=True)
class _Begun:
    sensors: LiveSensors
    view_valid: tuple[bool, ...]
    began_s: float
    output: EncoderOutput | None
    """None while others work on it."""


class SceneEncoder:
    """One loaded model. Single-threaded.

    Args:
        config: which, where, and what it must be.
        carried: cameras of the vehicle; see :func:`flad_perception.live_input.needed_cameras`.
        place: takes the model and its hash, and gives what runs it, elsewhere perhaps.

    Raises:
        FladError: MODEL_REFUSED, naming what differs.
    """

    def __init__(
        self,
        config: SceneEncoderConfig,
        carried: Collection[str] = (),
        place: Place | None = None,
    ) -> None:
        self._options = config
        self._carried = tuple(carried)
        path = model_file(config.model)
        try:
            self._model, self.config, identity = load_encoder(path)
        except (OSError, ValueError) as error:
            raise FladError(MODEL_REFUSED, str(error)) from error
        self.model_hash = identity.hash
        self._check(path)
        self._device = torch.device(_device(config.device))
        self._model.to(self._device).eval()
        self._run = place(self._model, self.model_hash) if place else None
        self._begun: deque[_Begun] = deque()

    def run(self, sensors: LiveSensors) -> SceneOutput:
        """Encode one moment, where none has begun.

        Raises:
            ValueError: if the model answers with numbers that are not finite.
        """
        self.begin(sensors)
        return self.finish()

    def begin(self, sensors: LiveSensors) -> None:
        """Begin with one moment; :meth:`finish` gives them back in order."""
        torch.set_num_threads(self._options.num_threads)  # it counts for the calling thread
        frame = encoder_input(sensors, self.config, self._carried)
        view_valid = tuple(frame.view_valid[0].tolist())
        began_s = time.perf_counter()
        with torch.inference_mode():
            submit = self._run.submit if self._run else None
            output = encode(self._model, frame.to(self._device), submit)
        self._begun.append(_Begun(sensors, view_valid, began_s, output))

    def finish(self) -> SceneOutput:
        """The earliest moment that has begun.

        Raises:
            ValueError: if the model answers with numbers that are not finite.
            FladError: if it ran elsewhere and that was lost.
        """
        begun = self._begun.popleft()
        sensors = begun.sensors
        with torch.inference_mode():
            output = begun.output or self._result()
            tokens = output.tokens[0].float().cpu().numpy()
        inference_s = time.perf_counter() - begun.began_s
        waypoints = output.waypoints_m[0].float().cpu().tolist()
        light = torch.softmax(output.light_logits[0].float(), dim=-1)[LIGHT_RED].item()
        stop = torch.softmax(output.stop_logits[0].float(), dim=-1)[_STOP].item()
        if not np.isfinite([light, stop, *np.ravel(waypoints)]).all():
            raise ValueError("the model's answers are not finite")
        boxes = decode_detections(
            output.detection[0].float().cpu().numpy(), self.config, self._options.score_threshold
        )
        return SceneOutput(
            tokens=tokens,
            model_hash=self.model_hash,
            contract_version=self.config.contract_version,
            views=tuple(view.name for view in self.config.views),
            view_valid=begun.view_valid,
            lidar_valid=sensors.sweep is not None,
            speed_mps=sensors.speed_mps,
            light_red=light,
            stop=stop,
            waypoints_m=tuple((x, y) for x, y in waypoints),
            waypoint_step_s=self.config.waypoint_step_s,
            boxes=tuple(boxes),
            inference_s=inference_s,
        )

    def close(self) -> None:
        """Let go of who else runs the model."""
        self._begun.clear()
        if self._run is not None:
            self._run.close()

    def _result(self) -> EncoderOutput:
        assert self._run is not None
        output: EncoderOutput = self._run.result()
        return output

    def _check(self, path: Path) -> None:
        wanted, complaints = self._options, []
        if not self.model_hash.startswith(wanted.expected_model_hash):
            complaints.append(
                f"its hash is {self.model_hash}, expected_model_hash is "
                f"{wanted.expected_model_hash}"
            )
        if self.config.contract_version != wanted.expected_contract_version:
            complaints.append(
                f"its tokens follow contract {self.config.contract_version}, "
                f"expected_contract_version is {wanted.expected_contract_version}"
            )
        if wanted.expected_config:
            expected = load_encoder_config(wanted.expected_config)
            complaints += _differences(self.config, expected, wanted.expected_config)
        if complaints:
            raise FladError(MODEL_REFUSED, f"{path}: " + "; ".join(complaints))


def model_file(name: str) -> Path:
    """The file of a shipped model, or the file itself.

    Raises:
        FladError: MODEL_REFUSED, if there is neither.
    """
    path = Path(name) if name.endswith(".safetensors") else shipped_weights(name)
    if not path.is_file():
        raise FladError(
            MODEL_REFUSED,
            f"there is no model {name!r}: {path} is no file; train one or name a file",
        )
    return path


def _differences(found: EncoderConfig, expected: EncoderConfig, name: str) -> list[str]:
    return [
        f"its {key} is {getattr(found, key)!r}, {name} has {value!r}"
        for key, value in vars(expected).items()
        if getattr(found, key) != value
    ]


def _device(choice: str) -> str:
    if choice == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if choice == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is cuda, PyTorch sees no GPU here; allowed are auto and cpu")
    return choice

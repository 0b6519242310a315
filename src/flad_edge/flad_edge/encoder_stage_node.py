# SPDX-License-Identifier: Apache-2.0
"""ROS side of one of the other computers that run an encoder: serves its stage. No arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rclpy.lifecycle import State, TransitionCallbackReturn

from flad_common.config import knob
from flad_common.ros.lifecycle import ManagedNode, reports_errors, run_node
from flad_common.ros.parameters import from_node
from flad_edge.encoder_stages import computers_of, stage_server
from flad_edge.ros.stage_links import stage_transport
from flad_pipeline.stages.staged_model import StageServer

_CLOSE_S = 10.0


@dataclass(frozen=True, kw_only=True)
class EncoderStageConfig:
    """Which stage, of which model."""

    stages: tuple[str, ...] = knob(unit="", doc="As the encoder's: all computers, its own first.")
    computer: str = knob(unit="", doc="Which of the stages this is.")
    model: str = knob("small", unit="", doc="As the encoder's.")
    num_threads: int = knob(2, unit="1", doc="Of PyTorch on the CPU.")


class EncoderStageNode(ManagedNode):
    """Serves while active; a lost encoder may come back."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("encoder_stage", **kwargs)
        self._server: StageServer | None = None

    @reports_errors
    def on_configure(self, state: State) -> TransitionCallbackReturn:
        """Load the model and cut it.

        Raises:
            FladError: if there is no such model.
            ValueError: if the parameters do not fit each other.
        """
        c = from_node(EncoderStageConfig, self)
        names = computers_of(c.stages, self.get_namespace())
        if c.computer not in c.stages[1:]:
            raise ValueError(f"computer must be one of {list(c.stages[1:])}, got {c.computer!r}")
        place = c.stages.index(c.computer)
        self._server = stage_server(
            c.model, names, place, open_=stage_transport, num_threads=c.num_threads
        )
        self.get_logger().info(f"stage {names[place]} of {', '.join(names)}, model {c.model!r}")
        return super().on_configure(state)

    @reports_errors
    def on_activate(self, state: State) -> TransitionCallbackReturn:
        """Serve, in a thread."""
        assert self._server is not None
        self._server.start()
        return super().on_activate(state)

    @reports_errors
    def on_deactivate(self, state: State) -> TransitionCallbackReturn:
        """Stop serving."""
        self.close()
        return super().on_deactivate(state)

    @reports_errors
    def on_cleanup(self, state: State) -> TransitionCallbackReturn:
        """Let go of the model."""
        self._server = None
        return super().on_cleanup(state)

    def close(self) -> None:
        """End the thread, also where the process ends without a transition."""
        if self._server is not None:
            self._server.stop(_CLOSE_S)


def main(args: list[str] | None = None) -> None:
    """Run the node; with ``autostart`` it goes active by itself."""
    run_node(EncoderStageNode, args)


if __name__ == "__main__":
    main()

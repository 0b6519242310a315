# SPDX-License-Identifier: Apache-2.0
"""ROS side of an encoder on several computers: the encoder node whose model is a pipeline."""

from __future__ import annotations

from flad_common.ros.lifecycle import run_node
from flad_edge.encoder_stages import computers_of, staged_encoder
from flad_edge.ros.stage_links import epoch_of_now, stage_transport
from flad_perception.encoder_node import EncoderNode
from flad_perception.scene_encoder import Place
from flad_pipeline.stages.staged_model import StagedModelConfig


def main(args: list[str] | None = None) -> None:
    """Run the node; the parameter ``stages`` names the computers, this one first."""

    def on_stages(stages: tuple[str, ...], namespace: str, wait_s: float) -> Place:
        config = StagedModelConfig(first_meeting_s=wait_s, first_epoch=epoch_of_now())
        names = computers_of(stages, namespace)
        return staged_encoder(names, open_=stage_transport, config=config)

    run_node(lambda: EncoderNode(on_stages=on_stages), args)


if __name__ == "__main__":
    main()

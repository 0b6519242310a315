# SPDX-License-Identifier: Apache-2.0
"""Eqs. 7 to 10: what computation and transfer take, and how long a step of a pipeline is.

:class:`~flad_edge.swift.problem.Problem` holds the same for all stages of a cluster at once.
"""

from __future__ import annotations

from collections.abc import Sequence


def module_flops(flops_per_sample: float, num_samples: int) -> float:
    """Eq. 7: M_cmp = M*_cmp N_batch."""
    return flops_per_sample * num_samples


def compute_time_s(
    flops: float, flops_per_s: float, utilization: float = 0.5, memory_traffic: float = 1.3
) -> float:
    """Eq. 8: t_cmp = M_cmp nu / (cmp_v mu).

    Example:
        >>> round(compute_time_s(1e12, 0.472e12), 3)  # a TFLOP on a Jetson Nano
        5.508
    """
    return flops * memory_traffic / (flops_per_s * utilization)


def transfer_time_s(
    forward_bytes: float, backward_bytes: float, seconds_per_byte: float, delay_s: float = 0.0
) -> float:
    """Eq. 9, read as activations forward and gradients back: (a + g) nu / com_v, plus the delays.

    The paper writes 2 M_cap, twice the model's capacity; what crosses a cut is its activations,
    and in the backward pass their gradients.
    """
    return (forward_bytes + backward_bytes) * seconds_per_byte + 2.0 * delay_s


def path_time_s(stage_s: Sequence[float], hop_s: Sequence[float]) -> float:
    """Eq. 10: one micro-batch through all stages and back, nothing else under way.

    Args:
        stage_s: forward and backward computation of every stage, ``[S]``.
        hop_s: both directions of every hop, ``[S - 1]``.
    """
    return sum(stage_s) + sum(hop_s)


def step_time_s(
    stage_s: Sequence[float],
    hop_s: Sequence[float],
    air_s: Sequence[float],
    micro_batches: int,
    *,
    shared_channel: bool,
) -> float:
    """Time of a step of ``micro_batches``: one along the path, the others behind the slowest.

    On links of their own every hop is a station like a stage. On a shared channel all hops are one
    station, which is busy for the time of all of them. Planners minimise this closed form; 1F1B
    itself, which also holds back for want of memory, is stepped through by
    :func:`flad_edge.swift.schedule.simulated_step_s`.

    Args:
        stage_s: seconds per micro-batch of every stage, ``[S]``.
        hop_s: both directions of every hop, delays included, ``[S - 1]``.
        air_s: the same without delays: how long the channel is taken, ``[S - 1]``.
        micro_batches: at least 1.
        shared_channel: whether hops wait for each other.

    Example:
        >>> step_time_s([1.0, 3.0], [0.5], [0.5], 4, shared_channel=True)  # 4.5 + 3 * 3
        13.5
    """
    if micro_batches < 1:
        raise ValueError(f"micro_batches must be at least 1, got {micro_batches}")
    channel = sum(air_s) if shared_channel else max(air_s, default=0.0)
    return path_time_s(stage_s, hop_s) + (micro_batches - 1) * max(*stage_s, channel)


def kept_micro_batches(num_following: int, micro_batches: int) -> int:
    """Micro-batches of which a stage keeps activations under 1F1B: itself and those behind it."""
    return min(num_following + 1, micro_batches)

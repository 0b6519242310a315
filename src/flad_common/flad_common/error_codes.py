# SPDX-License-Identifier: Apache-2.0
"""Numbers of the failures that cross a process: one table, numbers are never reused.

``docs/errors.md`` is made from this table by ``./flad check --fix``; a test keeps both equal.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorCode:
    """One kind of failure: what it means and what to do."""

    number: int
    name: str
    meaning: str
    help: str


class FladError(Exception):
    """A failure with a number, for whoever reads the log of another process.

    Args:
        code: the kind of failure.
        detail: what was wrong, what arrived, what is allowed.
    """

    def __init__(self, code: ErrorCode, detail: str) -> None:
        super().__init__(
            f"FLAD-{code.number} {code.name}: {detail.rstrip()}\nWhat to do: {code.help}"
        )
        self.code = code
        self.detail = detail


# 1xx: this machine and its set-up.
TOOL_MISSING = ErrorCode(
    number=101,
    name="TOOL_MISSING",
    meaning="A program that set-up needs is not on this machine.",
    help="Install what `./flad doctor` names and run the command again.",
)
PACKAGES_FAILED = ErrorCode(
    number=102,
    name="PACKAGES_FAILED",
    meaning="pip could not install a requirement set.",
    help="Read pip's last lines above; check the network, then run `./flad setup` again.",
)
BUILD_FAILED = ErrorCode(
    number=103,
    name="BUILD_FAILED",
    meaning="colcon could not build the message packages.",
    help="Read build/log/latest_build; `./flad doctor` names a missing compiler or cmake.",
)
TOWNS_FAILED = ErrorCode(
    number=104,
    name="TOWNS_FAILED",
    meaning="The towns that ship with the project, or the world's kernels, could not be made.",
    help="Read the log that is named above; `./flad doctor` says what this machine lacks.",
)
DISK_FULL = ErrorCode(
    number=105,
    name="DISK_FULL",
    meaning="A file could not be written because the disk is full.",
    help="Free some space and run the same command again: what was complete before is kept.",
)

# 2xx: the world and the connection to it.
PORT_IN_USE = ErrorCode(
    number=201,
    name="PORT_IN_USE",
    meaning="Another program listens on the port that the world needs.",
    help="Give another --port, or end the program that holds it.",
)
WORLD_UNREACHABLE = ErrorCode(
    number=202,
    name="WORLD_UNREACHABLE",
    meaning="No CARLA-compatible server answers at the given address.",
    help="Check --host and --port and that the server runs; leave both out to start one here.",
)
WORLD_DIED = ErrorCode(
    number=203,
    name="WORLD_DIED",
    meaning="The server process ended while it was needed.",
    help="Read its log in the run's folder (runs/NAME/logs).",
)
SENSOR_TIMEOUT = ErrorCode(
    number=204,
    name="SENSOR_TIMEOUT",
    meaning="A sensor that was due did not deliver before its deadline.",
    help="The message names the sensor; a slow machine may need a longer timeout_s.",
)
MAP_UNUSABLE = ErrorCode(
    number=205,
    name="MAP_UNUSABLE",
    meaning="A map is missing, broken, or has no lane to drive on.",
    help="Check the path; `./flad sim --help` names the maps that ship with the project.",
)
WORLD_SILENT = ErrorCode(
    number=206,
    name="WORLD_SILENT",
    meaning="The server was there and did not answer a call in time.",
    help="See whether it still runs and what its log says last; a slow machine needs a longer "
    "timeout_s.",
)
WORLD_REFUSED = ErrorCode(
    number=207,
    name="WORLD_REFUSED",
    meaning="The server answered a call with an error, or another client ticks its world.",
    help="The message has the server's words; only one client may tick a world.",
)
SPAWN_FAILED = ErrorCode(
    number=208,
    name="SPAWN_FAILED",
    meaning="A vehicle or a sensor could not be placed in the world.",
    help="The message names it; choose another spawn point, blueprint or attribute.",
)

# 3xx: driving.
CONTROL_TIMEOUT = ErrorCode(
    number=301,
    name="CONTROL_TIMEOUT",
    meaning="A vehicle's planner gave no control for a tick in lockstep.",
    help="The message names the vehicle; read its planner's log in the run's folder.",
)
NODE_DIED = ErrorCode(
    number=302,
    name="NODE_DIED",
    meaning="A node's process ended while the run needed it.",
    help="Read its log in the run's folder (runs/NAME/logs).",
)

ENCODER_TIMEOUT = ErrorCode(
    number=303,
    name="ENCODER_TIMEOUT",
    meaning="A vehicle's encoder gave no tokens for a tick in lockstep.",
    help="The message says what is known of it; read its log in the run's folder.",
)

# 4xx: evaluation.
ROUTE_FILE_UNUSABLE = ErrorCode(
    number=401,
    name="ROUTE_FILE_UNUSABLE",
    meaning="A route file is missing, is not leaderboard XML, or names an unknown town.",
    help="Compare with the files in config/routes.",
)
ROUTE_UNPLANNABLE = ErrorCode(
    number=402,
    name="ROUTE_UNPLANNABLE",
    meaning="No road leads from one point of a route to the next.",
    help="The message names both points; move them onto driving lanes that are connected.",
)
RESULTS_MISMATCH = ErrorCode(
    number=403,
    name="RESULTS_MISMATCH",
    meaning="A results file to be resumed belongs to another configuration.",
    help="Give another --json, or delete the old file if it is no longer wanted.",
)

# 5xx: recording.
RECORDING_DAMAGED = ErrorCode(
    number=501,
    name="RECORDING_DAMAGED",
    meaning="A recording's files do not match its own index.",
    help="The message names the frame; delete that clip's folder and record it again.",
)

# 6xx: models and training.
CHECKPOINT_UNUSABLE = ErrorCode(
    number=601,
    name="CHECKPOINT_UNUSABLE",
    meaning="A training checkpoint is damaged, or belongs to another configuration or data set.",
    help="The message names what differs: run with the old settings, or choose another --out.",
)
TRAINING_DIVERGED = ErrorCode(
    number=602,
    name="TRAINING_DIVERGED",
    meaning="The loss or its gradient was not a finite number several times in a row.",
    help="Resume with a lower learning rate (lr, backbone_lr in config/training) in a new --out, "
    "or precision fp32; the message names the batches.",
)

# 7xx: models on a vehicle.
MODEL_REFUSED = ErrorCode(
    number=701,
    name="MODEL_REFUSED",
    meaning="A model does not match what the vehicle's parameters ask for: hash, contract, shape.",
    help="Give the parameter `model` the right file, or expected_model_hash, expected_config and "
    "expected_contract_version the values that the message names.",
)

# 8xx: answers of the edge to a vehicle.
REQUEST_MALFORMED = ErrorCode(
    number=801,
    name="REQUEST_MALFORMED",
    meaning="A request to the edge cannot be what a vehicle means: shape, checksum, numbers, name.",
    help="The message says what arrived and what is allowed; check who publishes the requests.",
)
TOKENS_REFUSED = ErrorCode(
    number=802,
    name="TOKENS_REFUSED",
    meaning="A vehicle's tokens follow another contract, or another encoder made them, than those "
    "that the edge's driving model was trained on.",
    help="Give the vehicle the encoder of the release that the message names.",
)
INSTRUCTION_REFUSED = ErrorCode(
    number=803,
    name="INSTRUCTION_REFUSED",
    meaning="An instruction or a notice is empty, too long, or cannot be read by the model.",
    help="Say it in one printable line, in the language that the model was trained on.",
)
VEHICLE_NAME_TAKEN = ErrorCode(
    number=804,
    name="VEHICLE_NAME_TAKEN",
    meaning="Another process is asking the edge under the same vehicle's name.",
    help="Give every vehicle a name of its own; after a restart wait until the edge lets go of it.",
)
REQUEST_OUT_OF_ORDER = ErrorCode(
    number=805,
    name="REQUEST_OUT_OF_ORDER",
    meaning="A request's stamp is not late enough after the one before of the same vehicle.",
    help="Ask in the order of the sensor data and at the rate of the model's histories, 5 Hz; "
    "check the vehicle's clock.",
)
EDGE_FULL = ErrorCode(
    number=806,
    name="EDGE_FULL",
    meaning="The edge drives as many vehicles as it may.",
    help="Raise max_vehicles where the memory allows it, or ask another edge.",
)
DRIVING_MODEL_FAILED = ErrorCode(
    number=807,
    name="DRIVING_MODEL_FAILED",
    meaning="The driving model broke off, or what it said is not a number.",
    help="The vehicle's history begins anew with its next request; if it happens again, read the "
    "edge's log and roll the release back.",
)
REQUEST_SHED = ErrorCode(
    number=808,
    name="REQUEST_SHED",
    meaning="The edge is overloaded: a request gave way to a newer one of the same vehicle.",
    help="Ask less often, serve fewer vehicles, or raise max_batch if the accelerator allows it.",
)
ANSWER_LATE = ErrorCode(
    number=809,
    name="ANSWER_LATE",
    meaning="The time that a request allows passed before its answer was there.",
    help="Look at the edge's latency in /diagnostics; serve fewer vehicles or a smaller model.",
)
EDGE_STOPPED = ErrorCode(
    number=810,
    name="EDGE_STOPPED",
    meaning="The edge was taken out of service while a request waited.",
    help="Nothing, where somebody stopped it; else read the edge's log. The vehicle falls back.",
)
UPLOAD_REFUSED = ErrorCode(
    number=811,
    name="UPLOAD_REFUSED",
    meaning="A clip that a vehicle uploaded is damaged, is of another encoder, or names nobody.",
    help="The message says what arrived and what is allowed; give the vehicle the live release.",
)
UPLOAD_QUOTA = ErrorCode(
    number=812,
    name="UPLOAD_QUOTA",
    meaning="A vehicle has uploaded as much as one may, or uploads come faster than they are kept.",
    help="Nothing, where this is wanted; else raise adapt.uploads in the edge's parameters.",
)

# 9xx: updates of vehicles that train, on their way into the edge's model.
UPDATE_MALFORMED = ErrorCode(
    number=901,
    name="UPDATE_MALFORMED",
    meaning="What arrived is no update: cut off, unreadable, or not what its header says.",
    help="Check that vehicle and edge run the same version; a link that damages data is counted "
    "under this name, too.",
)
UPDATE_UNSIGNED = ErrorCode(
    number=902,
    name="UPDATE_UNSIGNED",
    meaning="An update's signature is not that of the vehicle in whose name it came.",
    help="Enrol the vehicle's public key at the edge with `./flad keys enrol`; if it is enrolled, "
    "somebody else uses its name.",
)
UPDATE_REPLAYED = ErrorCode(
    number=903,
    name="UPDATE_REPLAYED",
    meaning="An update belongs to another round, started from another model, or came before.",
    help="Nothing, if the vehicle was late: its next round counts again. If it goes on, somebody "
    "sends old messages again.",
)
UPDATE_NOT_ASKED = ErrorCode(
    number=904,
    name="UPDATE_NOT_ASKED",
    meaning="A vehicle was not asked for this, or claims more data than it can have.",
    help="The message says what was asked for; check what the vehicle reports about its data.",
)
UPDATE_WRONG_SHAPE = ErrorCode(
    number=905,
    name="UPDATE_WRONG_SHAPE",
    meaning="An update's tensors have other names, shapes or types than the model's.",
    help="Give the vehicle the configuration that the round was announced with.",
)
UPDATE_NOT_FINITE = ErrorCode(
    number=906,
    name="UPDATE_NOT_FINITE",
    meaning="An update holds numbers that no model has: NaN, infinity, a negative variance.",
    help="Look at that vehicle's training: a rate too high, a broken sensor, or half precision.",
)
UPDATE_TOO_FAR = ErrorCode(
    number=907,
    name="UPDATE_TOO_FAR",
    meaning="An update moves the model much further than those of others do.",
    help="Look at that vehicle's data; if it is sound, raise norm_factor or max_norm of the gate.",
)
ROUND_FAILED = ErrorCode(
    number=908,
    name="ROUND_FAILED",
    meaning="A round ended with fewer updates than its rule needs; the model stays as it was.",
    help="The message says who was missing and why; give a longer deadline, or ask more vehicles.",
)
KEY_REFUSED = ErrorCode(
    number=909,
    name="KEY_REFUSED",
    meaning="A key, or the ring of enrolled keys, cannot be used as asked.",
    help="The message says why; `./flad keys list` shows what is enrolled.",
)

# 10xx: groups of vehicles that train together.
PEER_LOST = ErrorCode(
    number=1001,
    name="PEER_LOST",
    meaning="A member of a training group is gone, hangs, or has given the group up.",
    help="The message names the member; the others go on in a group of a later epoch without it.",
)
PEER_LATE = ErrorCode(
    number=1002,
    name="PEER_LATE",
    meaning="A message of a member did not come, or could not be sent to it, before the deadline.",
    help="The message says what is known of that member; a slow link or device may need a longer "
    "timeout_s.",
)
GROUP_OVER = ErrorCode(
    number=1003,
    name="GROUP_OVER",
    meaning="A training group's epoch is over for this vehicle: another one has begun.",
    help="Nothing, if the edge has formed another group; a vehicle that comes back waits to be "
    "placed in one.",
)
TENSOR_MISMATCH = ErrorCode(
    number=1004,
    name="TENSOR_MISMATCH",
    meaning="A member sent another tensor than the one that its receiver expects.",
    help="All members must run the same schedule over the same partition and micro-batch size; the "
    "message names both tensors.",
)
ORDER_REFUSED = ErrorCode(
    number=1005,
    name="ORDER_REFUSED",
    meaning="A vehicle and the edge do not agree about the round that is under way.",
    help="Nothing, if the vehicle was away: it is asked again from the next rotation or round. "
    "Else the message says what was asked for and what is there.",
)
JOURNAL_UNUSABLE = ErrorCode(
    number=1006,
    name="JOURNAL_UNUSABLE",
    meaning="The folder of a federation is damaged, or of another model.",
    help="Give the model and configuration that it was begun with, or another folder.",
)
STAGE_TOO_LARGE = ErrorCode(
    number=1008,
    name="STAGE_TOO_LARGE",
    meaning="A stage would not fit into a vehicle's memory and was refused before it started.",
    help="The message has the arithmetic. Give the vehicle fewer units, smaller or fewer "
    "micro-batches, or free memory on it.",
)
NOBODY_TRAINS = ErrorCode(
    number=1007,
    name="NOBODY_TRAINS",
    meaning="A round has no vehicle that can train, alone or together with others.",
    help="The message says of each vehicle why; start more, or give them more memory or data.",
)

ERROR_CODES: tuple[ErrorCode, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, ErrorCode)
)


def errors_page() -> str:
    """The help page of every code, as Markdown."""
    lines = [
        "# Errors",
        "",
        "<!-- Made by `./flad check --fix` from flad_common/error_codes.py; do not edit. -->",
        "",
        "Failures that cross a process carry a number. Numbers are never reused.",
    ]
    for code in ERROR_CODES:
        lines += [
            "",
            f"## FLAD-{code.number} {code.name}",
            "",
            code.meaning,
            "",
            f"**What to do.** {code.help}",
        ]
    return "\n".join(lines) + "\n"

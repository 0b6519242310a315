# SPDX-License-Identifier: Apache-2.0
"""What a bad client can do: lose its own connection, and nothing else."""

from __future__ import annotations

import random
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgpack
import pytest
from contract.carla_world import CarlaWorld, SimProcess, transform

from flad_sim.errors import ExitCode


def rpc(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30.0)


def call(connection: socket.socket, method: str, *args: object) -> object:
    """One waited call, and its raw ``[1, msgid, error, result]``."""
    connection.sendall(msgpack.packb([0, 7, method, [[False], *args]]))
    unpacker = msgpack.Unpacker()
    while True:
        data = connection.recv(1 << 16)
        assert data, "the server closed the connection"
        unpacker.feed(data)
        for message in unpacker:
            return message


def closed_by_server(connection: socket.socket) -> bool:
    try:
        while connection.recv(1 << 16):
            pass
    except ConnectionError:
        return True
    return True


def test_a_port_in_use_is_said_with_the_way_out(sim: SimProcess) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "flad_sim", "--port", str(sim.port)],
        capture_output=True,
        text=True,
        timeout=120.0,
        check=False,
    )
    assert second.returncode == ExitCode.PORT_IN_USE
    assert f"port {sim.port}" in second.stderr
    assert "--port" in second.stderr
    assert "Traceback" not in second.stderr


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--town", "Atlantis"], ExitCode.BAD_TOWN, ["Atlantis", "Grid"]),
        (["--town", "{broken}"], ExitCode.BAD_TOWN, ["broken.xodr"]),
        (["--town-dir", "/nowhere"], ExitCode.BAD_TOWN, ["/nowhere"]),
        (["--port", "70000"], ExitCode.USAGE, ["port", "70000"]),
        (["--traffic", "-3"], ExitCode.USAGE, ["-3"]),
    ],
)
def test_a_start_that_cannot_work_says_what_where_and_what_to_do(
    tmp_path: Path, options: list[str], code: ExitCode, words: list[str]
) -> None:
    broken = tmp_path / "broken.xodr"
    broken.write_text("<OpenDRIVE><road></OpenDRIVE>")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "flad_sim",
            "--port",
            "0",
            *(o.format(broken=broken) for o in options),
        ],
        capture_output=True,
        text=True,
        timeout=120.0,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr


def test_it_listens_on_this_machine_only(sim: SimProcess) -> None:
    listening = Path("/proc/net/tcp").read_text().splitlines()[1:]
    ports = {f"{p:04X}" for p in (sim.port, sim.port + 1)}
    addresses = {
        line.split()[1].split(":")[0]
        for line in listening
        if line.split()[1].split(":")[1] in ports and line.split()[3] == "0A"
    }
    assert addresses == {"0100007F"}


@pytest.mark.parametrize("seed", range(8))
def test_random_bytes_cost_only_their_own_connection(
    carla_world: CarlaWorld, sim: SimProcess, seed: int
) -> None:
    rng = random.Random(seed)
    good = msgpack.packb([0, 1, "apply_control_to_vehicle", [[True], 5, [1.0] * 7]])
    for _ in range(10):
        data = bytearray(rng.randbytes(rng.randrange(1, 400)) if seed % 2 else good)
        for _ in range(rng.randrange(4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        with rpc(sim.port) as connection:
            connection.sendall(bytes(data))
    frame = carla_world.tick()
    assert carla_world.tick() == frame + 1


def _noise(rng: random.Random, depth: int = 0) -> object:
    if depth < 3 and rng.random() < 0.5:
        return [_noise(rng, depth + 1) for _ in range(rng.randrange(8))]
    return rng.choice(
        [None, True, 0, 1, 5, -1, 2**40, 0.5, float("nan"), float("inf"), "", "x", b"", {"a": 1}]
    )


@pytest.mark.parametrize("seed", range(4))
def test_every_call_survives_any_arguments(
    carla_world: CarlaWorld, sim: SimProcess, seed: int
) -> None:
    from flad_sim.rpc.dispatch import HANDLERS

    rng = random.Random(seed)
    car = carla_world.car()
    calls = sorted(set(HANDLERS) - {"set_episode_settings", "load_new_episode", "destroy_actor"})
    with rpc(sim.port) as connection:
        for method in calls:
            for _ in range(6):
                args = [_noise(rng) for _ in range(rng.randrange(5))]
                if rng.random() < 0.5:
                    args = [car.id, *args]
                kind, msgid, *_ = call(connection, method, *args)  # type: ignore[misc]
                assert (kind, msgid) == (1, 7)
    assert "Traceback" not in sim.log
    carla_world.tick()
    assert carla_world.world.get_snapshot().has_actor(car.id)


def test_a_request_that_never_ends_is_cut_off(carla_world: CarlaWorld, sim: SimProcess) -> None:
    with rpc(sim.port) as connection:
        head = msgpack.packb([0, 1, "copy_opendrive_to_file", [[False]]])[:-2]
        connection.sendall(head + b"\x92\x91\xc2" + b"\xdb" + struct.pack(">I", 2**31))
        try:
            for _ in range(80):
                connection.sendall(b"x" * (1 << 20))
            cut = False
        except ConnectionError:
            cut = True
        assert cut or closed_by_server(connection)
    assert "limit" in sim.log
    carla_world.tick()


def test_half_a_request_blocks_nobody(carla_world: CarlaWorld, sim: SimProcess) -> None:
    with rpc(sim.port) as connection:
        connection.sendall(msgpack.packb([0, 1, "tick_cue", [[False]]])[:5])
        frame = carla_world.tick()
        assert carla_world.tick() == frame + 1


def test_a_client_that_vanishes_in_a_tick_harms_nobody(
    carla_world: CarlaWorld, sim: SimProcess
) -> None:
    for _ in range(5):
        connection = rpc(sim.port)
        connection.sendall(msgpack.packb([0, 1, "tick_cue", [[False]]]) * 3)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    frame = carla_world.tick()  # ticks that had arrived before the client vanished may follow
    assert carla_world.tick() > frame


def test_a_subscriber_that_vanishes_harms_nobody(carla_world: CarlaWorld, sim: SimProcess) -> None:
    camera = carla_world.spawn(
        "sensor.camera.rgb", transform(0, 0, 8), image_size_x=200, image_size_y=100
    )
    measure = carla_world.listen(camera)
    for stream in (1, 2, 3, 99999):
        with socket.create_connection(("127.0.0.1", sim.port + 1), timeout=10.0) as subscriber:
            subscriber.sendall(struct.pack("<I", stream))
            measure()
            subscriber.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with socket.create_connection(("127.0.0.1", sim.port + 1), timeout=10.0) as subscriber:
        subscriber.sendall(b"\x01")  # a quarter of an id
        measure()
    measure()


def test_an_unknown_blueprint_is_answered_with_the_nearest(sim: SimProcess) -> None:
    with rpc(sim.port) as connection:
        description = [0, "vehicle.tesla.modell3", []]
        place = [[0, 0, 0], [0, 0, 0]]
        reply = call(connection, "spawn_actor", description, place)
    _, _, error, result = reply  # type: ignore[misc]
    assert error is None
    (flag, (message,)) = result[0]
    assert flag == 0
    assert "vehicle.tesla.modell3" in message
    assert "vehicle.tesla.model3" in message


def test_an_impossible_step_is_refused_and_the_old_one_stays(
    carla_world: CarlaWorld, sim: SimProcess
) -> None:
    with rpc(sim.port) as connection:
        for delta in (-1.0, float("nan"), 1e9):
            reply = call(connection, "set_episode_settings", [True, False, [True, delta]])
            assert "fixed_delta_seconds" in reply[3][0][1][0]  # type: ignore[index]
    frame = carla_world.tick()
    assert carla_world.tick() == frame + 1


def test_a_huge_batch_is_answered_item_by_item(sim: SimProcess, carla_world: CarlaWorld) -> None:
    commands = [[[1, [4_000_000 + i]]] for i in range(20_000)]
    with rpc(sim.port) as connection:
        reply = call(connection, "apply_batch", commands, False)
    assert len(reply[3]) == 20_000  # type: ignore[index]
    assert {r[0][0] for r in reply[3]} == {0}  # type: ignore[index]
    carla_world.tick()


def test_spawning_without_end_meets_a_limit(start_sim: Callable[..., SimProcess]) -> None:
    server = start_sim("--town", "Grid")
    spawn = [[0, [[0, "sensor.other.gnss", []], [[0, 0, 0], [0, 0, 0]], [False], 0, "", []]]]
    with rpc(server.port) as connection:
        reply = call(connection, "apply_batch", [spawn] * 2_200, False)
        refused = [r for r in reply[3] if r[0][0] == 0]  # type: ignore[index]
        assert len(refused) > 200
        assert "destroy some first" in refused[0][0][1][0]
        assert call(connection, "version")[3] == [[1, "0.9.16"]]  # type: ignore[index]

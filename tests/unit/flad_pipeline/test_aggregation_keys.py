# SPDX-License-Identifier: Apache-2.0
"""Keys on the vehicle and at the edge, by code and by command."""

from __future__ import annotations

import argparse
import stat

import pytest

from flad_bringup.commands import keys as command
from flad_common.error_codes import FladError
from flad_pipeline.aggregation.keys import KeyRing, VehicleKey, decode_public, encode_public

DAY = "2026-11-22"


def test_a_key_is_kept_private_and_never_overwritten(tmp_path):
    path = tmp_path / "secret/vehicle.pem"
    key = VehicleKey.generate()
    key.save(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert VehicleKey.load(path).public == key.public
    with pytest.raises(FladError, match="exists"):
        key.save(path)
    path.chmod(0o644)
    with pytest.raises(FladError, match="chmod 600"):
        VehicleKey.load(path)


@pytest.mark.parametrize("text", ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_a_file_that_is_no_key_is_refused(tmp_path, text):
    path = tmp_path / "vehicle.pem"
    path.write_text(text)
    path.chmod(0o600)

    with pytest.raises(FladError, match="KEY_REFUSED"):
        VehicleKey.load(path)
    with pytest.raises(FladError, match="KEY_REFUSED"):
        VehicleKey.load(tmp_path / "absent.pem")


def test_a_ring_survives_its_file(tmp_path):
    first, second = VehicleKey.generate(), VehicleKey.generate()
    ring = KeyRing().enrol("a", first.public, today=DAY).enrol("b", second.public, today=DAY)
    ring = ring.revoke("a", today=DAY).enrol("a", VehicleKey.generate().public, today=DAY)
    ring.save(tmp_path / "ring.yaml")

    assert KeyRing.load(tmp_path / "ring.yaml") == ring
    assert KeyRing.load(tmp_path / "none.yaml") == KeyRing()


def test_a_name_has_one_key_and_a_key_one_name():
    key, other = VehicleKey.generate(), VehicleKey.generate()
    ring = KeyRing().enrol("a", key.public, today=DAY)

    with pytest.raises(FladError, match="revoke that key first"):
        ring.enrol("a", other.public, today=DAY)
    with pytest.raises(FladError, match="is or was that of a"):
        ring.enrol("b", key.public, today=DAY)
    again = ring.revoke("a", today=DAY).enrol("a", other.public, today=DAY)
    with pytest.raises(FladError, match="is or was"):
        again.enrol("b", key.public, today=DAY)
    with pytest.raises(FladError, match="has no key here"):
        ring.revoke("b", today=DAY)
    again.verify("a", b"words", other.sign(b"words"))
    with pytest.raises(FladError, match="UPDATE_UNSIGNED"):
        again.verify("a", b"words", key.sign(b"words"))


@pytest.mark.parametrize("text", ["", "hello!", "AAAA", "A" * 44])
def test_a_text_that_is_no_public_key_is_refused(text):
    with pytest.raises(FladError, match="KEY_REFUSED"):
        decode_public(text)


@pytest.mark.parametrize("text", ["[1]", "vehicles: 3", "vehicles: {a: {b: 1}}", "{"])
def test_a_file_that_is_no_ring_is_refused(tmp_path, text):
    (tmp_path / "ring.yaml").write_text(text)

    with pytest.raises(FladError, match="no ring"):
        KeyRing.load(tmp_path / "ring.yaml")


def test_the_operators_way(tmp_path, capsys, workspace):
    def flad(*arguments):
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        args = parser.parse_args([str(a) for a in arguments])
        args.workspace = workspace
        assert command.run(args) == 0
        return capsys.readouterr().out.strip()

    pem, ring = tmp_path / "vehicle.pem", tmp_path / "ring.yaml"
    public = flad("new", "--out", pem)
    assert flad("public", pem) == public == encode_public(VehicleKey.load(pem).public)
    assert "nobody" in flad("list", "--ring", ring)
    flad("enrol", "vehicle_3", public, "--ring", ring)
    assert public in flad("list", "--ring", ring)
    KeyRing.load(ring).verify("vehicle_3", b"x", VehicleKey.load(pem).sign(b"x"))
    flad("revoke", "vehicle_3", "--ring", ring)
    assert "revoked 20" in flad("list", "--ring", ring)

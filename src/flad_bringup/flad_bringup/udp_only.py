# SPDX-License-Identifier: Apache-2.0
"""Fast DDS's profile without shared memory: for processes that may be killed, and for namespaces.

Whoever is killed while it holds a lock of Fast DDS's shared memory holds it for ever: the next that
writes to it waits without end (docs/transport.md, "Limits"). Between namespaces of one machine,
shared memory would go around the link.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

_SPACE = "http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles"
_NAMES = {"d": _SPACE}


def write_udp_only(config: Path, folder: Path) -> Path:
    """Write the profile of ``config/fastdds.xml`` without shared memory into ``folder``.

    Raises:
        ValueError: if that profile would leave no transport at all.
    """
    source = config / "fastdds.xml"
    root = ElementTree.fromstring(source.read_text(encoding="utf-8"))
    named: list[str] = []
    for descriptors in root.iterfind(".//d:transport_descriptors", _NAMES):
        for one in descriptors.findall("d:transport_descriptor", _NAMES):
            if one.findtext("d:type", namespaces=_NAMES) == "SHM":
                named.append(one.findtext("d:transport_id", "", _NAMES))
                descriptors.remove(one)
    for users in root.iterfind(".//d:userTransports", _NAMES):
        for one in users.findall("d:transport_id", _NAMES):
            if one.text in named:
                users.remove(one)
        if not len(users):
            raise ValueError(f"{source} has no transport but shared memory ({', '.join(named)})")
    ElementTree.register_namespace("", _SPACE)
    profile = folder / "udp_only.xml"
    ElementTree.ElementTree(root).write(profile, encoding="utf-8", xml_declaration=True)
    return profile

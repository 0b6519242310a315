# SPDX-License-Identifier: Apache-2.0
from glob import glob

from setuptools import find_packages, setup

PACKAGE = "flad_bringup"

setup(
    name=PACKAGE,
    version="0.1.0",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={PACKAGE: ["py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        (f"share/{PACKAGE}/launch", glob("../../launch/*.launch.py")),
        (
            f"share/{PACKAGE}/config",
            [f for kind in ("yaml", "rviz", "xml") for f in glob(f"../../config/*.{kind}")],
        ),
        (f"share/{PACKAGE}/config/rigs", glob("../../config/rigs/*.yaml")),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    license="Apache-2.0",
    description="Command line, node topology, launch files and process supervision of FLAD.",
    entry_points={"console_scripts": ["flad = flad_bringup.cli:main"]},
)

# SPDX-License-Identifier: Apache-2.0
from glob import glob

from setuptools import find_packages, setup

PACKAGE = "flad_perception"

setup(
    name=PACKAGE,
    version="0.1.0",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={PACKAGE: ["py.typed", "weights_data/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        (f"share/{PACKAGE}/config/encoder", glob("../../config/encoder/*.yaml")),
        (f"share/{PACKAGE}/config/training", glob("../../config/training/*.yaml")),
    ],
    entry_points={"console_scripts": ["encoder = flad_perception.encoder_node:main"]},
    install_requires=["setuptools"],
    zip_safe=False,
    license="Apache-2.0",
    description="Vision encoder: sensors in, scene tokens out; its data, training and node.",
)

# SPDX-License-Identifier: Apache-2.0
from glob import glob

from setuptools import find_packages, setup

PACKAGE = "flad_edge"

setup(
    name=PACKAGE,
    version="0.1.0",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={
        PACKAGE: ["py.typed", "weights_data/*", "weights_data/swift/*", "weights_data/dwell/*"]
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        (f"share/{PACKAGE}/config/adllm", glob("../../config/adllm/*.yaml")),
        (f"share/{PACKAGE}/config", ["../../config/devices.yaml"]),
        (f"share/{PACKAGE}/config/clusters", glob("../../config/clusters/*")),
        (f"share/{PACKAGE}/config/training", glob("../../config/training/adllm_*.yaml")),
    ],
    entry_points={
        "console_scripts": [
            "edge = flad_edge.edge_node:main",
            "conductor = flad_edge.conductor_node:main",
            "driver = flad_edge.driver_node:main",
            "planning = flad_edge.planning_node:main",
            "presence = flad_edge.presence_node:main",
            "encoder_on_stages = flad_edge.encoder_on_stages_node:main",
            "encoder_stage = flad_edge.encoder_stage_node:main",
            "uploader = flad_edge.uploader_node:main",
        ]
    },
    install_requires=["setuptools"],
    zip_safe=False,
    license="Apache-2.0",
    description="The edge server: language models that drive, and the service that runs them.",
)

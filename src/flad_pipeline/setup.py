# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

PACKAGE = "flad_pipeline"

setup(
    name=PACKAGE,
    version="0.1.0",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={PACKAGE: ["py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    entry_points={"console_scripts": ["worker = flad_pipeline.worker_node:main"]},
    install_requires=["setuptools"],
    zip_safe=False,
    license="Apache-2.0",
    description="Federated pipelines: vehicles train one model together over ROS 2.",
)

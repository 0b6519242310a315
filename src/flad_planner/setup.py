# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

PACKAGE = "flad_planner"

setup(
    name=PACKAGE,
    version="0.1.0",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={PACKAGE: ["py.typed", "language/*.yaml", "language/*.txt"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    license="Apache-2.0",
    description="Waypoints in, steering, throttle and brake out: controllers and planner node.",
    entry_points={"console_scripts": ["planner = flad_planner.planner_node:main"]},
)

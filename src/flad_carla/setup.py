# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

PACKAGE = "flad_carla"

setup(
    name=PACKAGE,
    version="0.1.0",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={PACKAGE: ["py.typed", "report/web/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    license="Apache-2.0",
    description="Bridge to CARLA, expert driver, closed-loop evaluation and recorder.",
    entry_points={"console_scripts": ["bridge = flad_carla.bridge_node:main"]},
)

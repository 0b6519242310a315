# SPDX-License-Identifier: Apache-2.0
from setuptools import find_packages, setup

PACKAGE = "flad_sim"

setup(
    name=PACKAGE,
    version="0.1.0",
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={PACKAGE: ["py.typed"]},
    include_package_data=True,
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    # The same packages as requirements/sim.txt, without its upper bounds: this one stands alone.
    install_requires=[
        "eclipse-sumo",
        "embreex",
        "libsumo",
        "llvmlite",
        "msgpack",
        "numba",
        "numpy",
        "scipy",
        "shapely",
    ],
    python_requires=">=3.10",
    zip_safe=False,
    license="Apache-2.0",
    description="A CARLA-compatible world that runs on a CPU, without a GPU and without ROS.",
    entry_points={"console_scripts": ["flad-sim = flad_sim.cli:main"]},
)

# SPDX-License-Identifier: Apache-2.0
# FLAD on ROS 2 Humble, for x86-64.
# The machines that build this project have no container engine: this file is not run in its CI.
#   docker build -t flad . && docker run --rm -it --shm-size=1g flad ./flad demo
FROM ros:humble-ros-base-jammy

RUN apt-get update && apt-get install -y --no-install-recommends \
        build-essential cmake git python3-venv \
        ros-humble-ackermann-msgs ros-humble-derived-object-msgs ros-humble-tf2-msgs \
        ros-humble-rmw-fastrtps-cpp ros-humble-launch-ros \
    && rm -rf /var/lib/apt/lists/*

RUN useradd --create-home flad
USER flad
WORKDIR /home/flad/flad
COPY --chown=flad . .
SHELL ["/bin/bash", "-c"]
RUN source /opt/ros/humble/setup.bash && ./flad setup

# ros_entrypoint.sh of the base image sources ROS.
CMD ["./flad", "demo"]

# Built from the repository's root: docker build -f deploy/docker/agent.Dockerfile -t sweepd-agent .
#
# Trials run inside this image, with its interpreter unless the study names another: build on your
# training image instead (--build-arg BASE=...), it needs Python 3.11 or newer. The driver's
# libraries come from the NVIDIA container runtime.
ARG BASE=python:3.12-slim
FROM ${BASE}

COPY constraints.txt /src/
COPY shared /src/shared
COPY agent /src/agent
COPY LICENSE /src/
RUN pip install --no-cache-dir --constraint /src/constraints.txt '/src/shared[objective]' '/src/agent[nemo]' && rm -r /src

# Supervisors outlive an agent that was killed, and somebody must reap them: run with --init
# (`init: true` in compose.yaml).
VOLUME /var/lib/sweepd
ENTRYPOINT ["sweepd-agent"]

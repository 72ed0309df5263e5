# Built from the repository's root: docker build -f deploy/docker/coordinator.Dockerfile -t sweepd-coordinator .
FROM python:3.12-slim

COPY constraints.txt /src/
COPY shared /src/shared
COPY coordinator /src/coordinator
# hatchling follows the licence's symlink to the root.
COPY LICENSE /src/
RUN pip install --no-cache-dir --constraint /src/constraints.txt /src/shared /src/coordinator && rm -r /src

USER nobody
ENTRYPOINT ["sweepd-coordinator"]

# syntax=docker/dockerfile:1
# One image for all services and for the command: docker run anabranch agency | taskgroup | eventmanager | gateway | run ...
# Targets: `service` (the default) has what the four services need; `all` also has what `demo`, `dev` and
# `run --embedded` need: a Valkey of its own.
ARG BASE_IMAGE=python:3.12-slim

FROM ${BASE_IMAGE} AS tools
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 SOURCE_DATE_EPOCH=315532800
WORKDIR /build
COPY requirements/build.txt requirements/
# Two environments: build tools and pip are not part of the image.
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes --requirement requirements/build.txt \
    && python -m venv --without-pip /opt/anabranch
# Bytecode without times in it: two builds of the same sources have the same files, and none is ever compiled again.
ENV COMPILE="python -m compileall -q --invalidation-mode unchecked-hash"

FROM tools AS dependencies-service
COPY requirements/service.txt requirements/
RUN /opt/build/bin/pip --python /opt/anabranch install --no-compile --require-hashes --requirement requirements/service.txt \
    && $COMPILE /opt/anabranch/lib

FROM tools AS dependencies-all
COPY requirements/runtime.txt requirements/
RUN /opt/build/bin/pip --python /opt/anabranch install --no-compile --require-hashes --requirement requirements/runtime.txt \
    && $COMPILE /opt/anabranch/lib

# Apart from the dependencies, so that a new version changes only a small layer.
FROM tools AS package
COPY pyproject.toml README.md LICENSE ./
COPY shared shared
COPY services services
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/build/bin/pip --python /opt/anabranch install --no-compile --no-deps --prefix /opt/package dist/*.whl \
    && $COMPILE /opt/package/lib

# Debian's init, statically linked. It becomes PID 1, which must reap the children of agents that run programs.
FROM ${BASE_IMAGE} AS init
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends tini && cp /usr/bin/tini-static /tini

FROM ${BASE_IMAGE} AS runtime
# Services write only to /var/lib/anabranch and /tmp: the rest of the file system may be read-only.
# Images of your own add agents to /opt/agents, which the user may write to while they are built.
RUN groupadd --system --gid 10001 anabranch \
    && useradd --system --uid 10001 --gid anabranch --home-dir /var/lib/anabranch --create-home anabranch \
    && install --directory --owner anabranch --group anabranch /opt/agents
COPY --from=init /tini /usr/local/bin/tini
ENV PATH=/opt/anabranch/bin:$PATH PYTHONPATH=/opt/agents PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /var/lib/anabranch
USER 10001:10001
# A subreaper, so that it also reaps where something else is PID 1: `docker run --init`, shareProcessNamespace.
ENTRYPOINT ["tini", "-s", "--", "anabranch"]
CMD ["--help"]
LABEL org.opencontainers.image.title="Anabranch" \
    org.opencontainers.image.description="Fan tasks out over Kafka and join them again" \
    org.opencontainers.image.licenses="Apache-2.0"

FROM runtime AS all
COPY --from=dependencies-all /opt/anabranch /opt/anabranch
COPY --from=package /opt/package /opt/anabranch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.version="$VERSION" org.opencontainers.image.revision="$REVISION"

FROM runtime AS service
COPY --from=dependencies-service /opt/anabranch /opt/anabranch
COPY --from=package /opt/package /opt/anabranch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.version="$VERSION" org.opencontainers.image.revision="$REVISION"

# syntax=docker/dockerfile:1
# One image for all services and for the command: docker run anabranch agency | taskgroup | eventmanager | gateway | run ...

FROM python:3.12-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
COPY requirements/build.txt requirements/runtime.txt requirements/
# Two environments, so that build tools are not part of the image.
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes --requirement requirements/build.txt \
    && python -m venv /opt/anabranch \
    && /opt/anabranch/bin/pip install --require-hashes --requirement requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY shared shared
COPY services services
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/anabranch/bin/pip install --no-deps dist/*.whl

FROM python:3.12-slim
RUN groupadd --system --gid 10001 anabranch \
    && useradd --system --uid 10001 --gid anabranch --home-dir /var/lib/anabranch --create-home anabranch
COPY --from=build /opt/anabranch /opt/anabranch
ENV PATH=/opt/anabranch/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# Services write only to this folder and /tmp: the rest of the file system may be read-only.
WORKDIR /var/lib/anabranch
USER 10001:10001
ENTRYPOINT ["anabranch"]
CMD ["--help"]

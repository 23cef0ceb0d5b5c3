# The gateway: the service alone, without vLLM and torch. `deploy/docker/build gateway` makes it.
#
# No `# syntax=` line: it would fetch a front end from a registry at every build.
ARG BASE_IMAGE=python:3.11-slim-bookworm
# The same Python, with pip and `strip`: of what wheels bring, 50 MB are debugging symbols.
ARG BUILDER_IMAGE=python:3.11-bookworm

FROM ${BUILDER_IMAGE} AS builder
ARG SOURCE_DATE_EPOCH=0
WORKDIR /src
# The packages before the sources: a changed line of ours does not install them again.
COPY deploy/requirements/rocm.txt pins.txt
COPY deploy/docker/tools.txt deploy/docker/assemble deploy/docker/lacking.py ./
RUN --mount=type=secret,id=pip,target=/etc/pip.conf sh ./assemble packages
COPY pyproject.toml README.md LICENSE ./
COPY service service
COPY loadtest loadtest
RUN --mount=type=secret,id=pip,target=/etc/pip.conf sh ./assemble service

FROM ${BASE_IMAGE}
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="gptoss gateway" \
      org.opencontainers.image.description="OpenAI-compatible gateway in front of vLLM" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=builder /image/ /
# USER is for getpass: a user id that the platform picks is not in /etc/passwd.
# The addresses: in a container, loopback reaches nobody. The admin API stays there until asked out.
ENV PATH=/opt/gptoss/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/var/lib/gptoss \
    USER=gptoss \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GPTOSS_STATE_DIR=/var/lib/gptoss \
    GPTOSS_CACHE_DIR=/var/cache/gptoss \
    GPTOSS_GATEWAY__HOST=0.0.0.0 \
    GPTOSS_GATEWAY__OPS_HOST=0.0.0.0 \
    HF_HOME=/var/cache/gptoss/huggingface \
    XDG_CACHE_HOME=/var/cache/gptoss
# Ends the build where the two images' Pythons differ.
RUN gptoss --help >/dev/null
WORKDIR /var/lib/gptoss
USER 10001:10001
EXPOSE 8000 8001
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as web; web.urlopen('http://127.0.0.1:8001/livez', timeout=4)"]
ENTRYPOINT ["gptoss"]
CMD ["gateway"]

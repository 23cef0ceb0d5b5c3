# The engine: vLLM's own image and the launcher. `deploy/docker/build engine` makes it.
# For AMD: --engine-base vllm/vllm-openai-rocm:v0.32.0
#
# vLLM's Python packages stay as upstream tested them, by construction: the service lives in a
# virtual environment of its own, /opt/gptoss, which sees the base's packages and adds only what
# they lack, or have too old for the service. On a GPU vLLM runs under the base's interpreter
# (`vllm` is the base's script) and does not see what was added. Installing beside vLLM's packages
# would be one pip call less, and every release of the base a chance to break it.
ARG BASE_IMAGE=vllm/vllm-openai:v0.32.0

FROM ${BASE_IMAGE} AS builder
ARG SOURCE_DATE_EPOCH=0
USER 0
WORKDIR /src
COPY deploy/requirements/rocm.txt pins.txt
COPY deploy/docker/tools.txt deploy/docker/assemble deploy/docker/lacking.py ./
COPY pyproject.toml README.md LICENSE ./
COPY service service
COPY loadtest loadtest
RUN --mount=type=secret,id=pip,target=/etc/pip.conf sh ./assemble engine

FROM ${BASE_IMAGE}
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="gptoss engine" \
      org.opencontainers.image.description="vLLM, configured for gpt-oss by GPU profile" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=builder /image/ /
# Whatever compiles or downloads at a start does it below the cache folder: keep it between starts.
# FlashInfer adds .cache/flashinfer itself; DeepGEMM goes by VLLM_CACHE_ROOT. AITER (AMD) is left
# alone: told of a folder it would not use the kernels that its image brings.
ENV PATH=/opt/gptoss/bin:${PATH} \
    HOME=/var/lib/gptoss \
    USER=gptoss \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GPTOSS_STATE_DIR=/var/lib/gptoss \
    GPTOSS_CACHE_DIR=/var/cache/gptoss \
    HF_HOME=/var/cache/gptoss/huggingface \
    XDG_CACHE_HOME=/var/cache/gptoss \
    VLLM_CACHE_ROOT=/var/cache/gptoss/vllm \
    TORCHINDUCTOR_CACHE_DIR=/var/cache/gptoss/inductor \
    TRITON_CACHE_DIR=/var/cache/gptoss/triton \
    TVM_FFI_CACHE_DIR=/var/cache/gptoss/tvm-ffi \
    TILELANG_CACHE_DIR=/var/cache/gptoss/tilelang \
    FLASHINFER_WORKSPACE_BASE=/var/cache/gptoss \
    CUDA_CACHE_PATH=/var/cache/gptoss/cuda \
    NUMBA_CACHE_DIR=/var/cache/gptoss/numba
WORKDIR /var/lib/gptoss
USER 10001:10001
EXPOSE 8100
# Loading the weights takes minutes, and the first start downloads them.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60m --retries=3 \
    CMD ["python", "-m", "service.engine.probe", "live"]
ENTRYPOINT ["gptoss"]
CMD ["engine"]

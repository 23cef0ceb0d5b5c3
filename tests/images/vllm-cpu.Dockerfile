# Stands in for vllm/vllm-openai, which cannot be pulled where the tests run: vLLM's CPU build from
# deploy/requirements/cpu.txt, for the whole system, as upstream's image has the CUDA build. What it
# cannot show: that the service installs beside the exact versions in upstream's image.
#
# packages.py installs into site/ outside, where pip's configuration and uv's cache are.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
# What vLLM's CPU kernels link to.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libnuma1 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
COPY site/ /usr/local/lib/python3.11/dist-packages/
# Bytecode of what serving loads, and of no more: engines start on a read-only file system.
RUN python3 -c "import vllm.entrypoints.openai.api_server, vllm.v1.engine.core, \
    vllm.v1.worker.cpu_worker, vllm.model_executor.models.gpt_oss, \
    transformers.models.gpt_oss.configuration_gpt_oss" && rm -rf /root/.cache /root/.config /tmp/*

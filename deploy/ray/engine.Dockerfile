# The engine's image with Ray beside it, for KubeRay. From the clone:
#
#   docker build -f deploy/ray/engine.Dockerfile --build-arg ENGINE_IMAGE=registry.example/serving/gptoss-engine:0.1.0 \
#     -t registry.example/serving/gptoss-ray-engine:0.1.0 deploy/ray
#
# Ray goes where the service is, /opt/gptoss, with the pip of the base. vLLM's own packages stay as
# they are, and vLLM does not see this Ray: `gptoss engine --executor ray` would need one in the base.
ARG ENGINE_IMAGE=gptoss-engine:0.1.0
FROM ${ENGINE_IMAGE}
# The one version of the whole cluster: rayVersion in raycluster.yaml.
ARG RAY_VERSION=2.60.0
USER 0
RUN /opt/gptoss/bin/python -m pip install --no-cache-dir "ray==${RAY_VERSION}" && ray --version
USER 10001:10001
# KubeRay's command replaces the entry point: `ray start --block`.

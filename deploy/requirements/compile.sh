#!/bin/sh
# Makes the pins anew from pyproject.toml: what `make pins` runs.
#
# cpu.txt leaves out what vLLM's CPU build asks for and never imports when it serves gpt-oss: the
# media libraries, of which no CPU builds are published, and triton.
set -eu
cd "$(dirname "$0")/../.."
compile() {
    .venv/bin/uv pip compile --quiet --no-annotate --no-header --system-certs \
        --python-version 3.11 --python-platform x86_64-manylinux_2_28 pyproject.toml "$@"
}
without="--no-emit-package torchvision --no-emit-package torchaudio --no-emit-package torchcodec --no-emit-package triton"
compile --extra engine-cpu $without -o deploy/requirements/cpu.txt
compile --extra engine -o deploy/requirements/cuda.txt
compile --extra engine-cpu --extra fleet --extra loadtest --extra dev $without -c deploy/requirements/cpu.txt -o deploy/requirements/dev.txt

# rocm.txt is the service alone: the engine is the one that the machine brings.
compile --extra tracing -c deploy/requirements/cpu.txt -o deploy/requirements/rocm.txt
grep -vxFf deploy/requirements/cpu.txt deploy/requirements/dev.txt >deploy/requirements/dev.new
mv deploy/requirements/dev.new deploy/requirements/dev.txt

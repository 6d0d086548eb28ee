# An image with voco. On a CPU, with the address of PyTorch's CPU builds (pytorch.org, Get Started, CPU), else pip takes
# the CUDA build of several gigabytes:
#   docker build --build-arg PIP_EXTRA_INDEX_URL=ADDRESS -t voco .
# With CUDA, on an image that brings torch for it:
#   docker build --build-arg BASE=pytorch/pytorch:TAG -t voco .
# Then:
#   docker run --rm --gpus all --shm-size 8g --user "$(id -u):$(id -g)" -v "$PWD:/work" voco index scans/ -o data.json
ARG BASE=python:3.11-slim
FROM ${BASE}
ARG PIP_EXTRA_INDEX_URL

# libgomp is what torch and SimpleITK compute with.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libgomp1 \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/voco
COPY pyproject.toml constraints.txt README.md CHANGELOG.md LICENSE ./
COPY voco_cli ./voco_cli
# A base that brings torch keeps it: the constraint would replace it by another build.
RUN if python -c "import torch" 2>/dev/null; then grep -vE '^torch(vision)?==' constraints.txt > pinned.txt; else cp constraints.txt pinned.txt; fi \
 && python -m pip install --no-cache-dir --constraint pinned.txt . \
 && voco --version

# Caches of matplotlib and Triton, where the user of the container may write.
ENV MPLCONFIGDIR=/tmp/matplotlib TRITON_CACHE_DIR=/tmp/triton HOME=/tmp
WORKDIR /work
ENTRYPOINT ["voco"]
CMD ["--help"]

# The image that serves. From the root of the project, with BuildKit:
#
#   docker build --file docker/serve.Dockerfile --tag kennel-serve .                   answers on CPUs, without torch
#   docker build --file docker/serve.Dockerfile --target gpu --tag kennel-serve-gpu .  answers on a GPU
#
# A base image can be pinned: --build-arg PYTHON_IMAGE=python@sha256:...
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
ARG CUDA_IMAGE=nvidia/cuda:13.0.2-base-ubuntu24.04

FROM ${PYTHON_IMAGE} AS python
RUN python3 -m venv --without-pip /opt/kennel

# What builds. It stays behind.
FROM python AS tools
# The system's certificates count, for whoever builds behind a company's proxy.
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt
COPY docker/requirements/build.txt /requirements/
RUN python3 -m venv /opt/tools \
 && /opt/tools/bin/pip install --no-cache-dir --require-hashes --requirement /requirements/build.txt

# The code itself: laid over an environment of packages, which it leaves alone when it changes.
FROM tools AS code
WORKDIR /project
COPY pyproject.toml README.md LICENSE ./
COPY serve serve
COPY train train
COPY local local
COPY scripts scripts
RUN /opt/tools/bin/uv build --wheel --no-build-isolation --python /opt/tools/bin/python --out-dir /wheel \
 && /opt/tools/bin/uv pip install --no-cache --python /opt/kennel/bin/python --no-deps --compile-bytecode \
      --prefix /code /wheel/*.whl

FROM ${CUDA_IMAGE} AS cuda
# /usr/local/cuda is a chain of links, which COPY would not follow.
RUN cp --archive "$(readlink --canonicalize /usr/local/cuda/compat)" /compat

FROM python AS runtime
ARG PYTHON_IMAGE
ENV PATH=/opt/kennel/bin:${PATH} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
LABEL com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true \
      org.opencontainers.image.title=kennel-serve \
      org.opencontainers.image.description="Answers which class a photo shows, as Amazon SageMaker asks it." \
      org.opencontainers.image.licenses=Apache-2.0 \
      org.opencontainers.image.base.name=${PYTHON_IMAGE}
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-m", "serve.health"]
ENTRYPOINT ["serve"]

# Both targets install in place, which spares a copy of 5 GB, with tools and cache mounted where folders are anyway.
FROM runtime AS gpu
ENV SERVE_ENGINE=torch SERVE_DEVICE=cuda NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY docker/requirements/serve-gpu.txt /opt/kennel/requirements.txt
RUN --mount=type=bind,from=tools,source=/opt/tools,target=/mnt --mount=type=cache,id=uv,target=/media \
    export UV_PYTHON=/opt/kennel/bin/python UV_CACHE_DIR=/media UV_SYSTEM_CERTS=1 \
 && /mnt/bin/uv pip sync --link-mode copy --compile-bytecode --require-hashes /opt/kennel/requirements.txt \
 && /mnt/bin/uv pip check
# For hosts whose driver is older than CUDA 13: serve/cuda.py looks at start.
COPY --from=cuda /compat /usr/local/cuda/compat
COPY --from=code /code /opt/kennel

FROM runtime AS cpu
COPY docker/requirements/serve.txt /opt/kennel/requirements.txt
# Left out of OpenVINO: other hardware (GPU with its kernel cache, NPU), formats other than its own, and C++.
RUN --mount=type=bind,from=tools,source=/opt/tools,target=/mnt --mount=type=cache,id=uv,target=/media \
    export UV_PYTHON=/opt/kennel/bin/python UV_CACHE_DIR=/media UV_SYSTEM_CERTS=1 \
 && /mnt/bin/uv pip sync --link-mode copy --compile-bytecode --require-hashes /opt/kennel/requirements.txt \
 && /mnt/bin/uv pip check \
 && cd /opt/kennel/lib/python3.11/site-packages/openvino \
 && rm -r include libs/cache.json libs/libopenvino_intel_gpu_plugin.so libs/libopenvino_intel_npu_plugin.so \
 && find libs -name '*_frontend.so*' ! -name '*_ir_frontend.so*' -delete
COPY --from=code /code /opt/kennel

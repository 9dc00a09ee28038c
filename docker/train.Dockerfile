# The image that trains: `docker run -v TREE:/opt/ml IMAGE train`. From the root of the project, with BuildKit:
#
#   docker build --file docker/train.Dockerfile --tag kennel-train .
#
# A base image can be pinned: --build-arg PYTHON_IMAGE=python@sha256:...
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
ARG CUDA_IMAGE=nvidia/cuda:13.0.2-base-ubuntu24.04

# What builds. It stays behind.
FROM ${PYTHON_IMAGE} AS tools
# The system's certificates count, for whoever builds behind a company's proxy.
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt UV_SYSTEM_CERTS=1 \
    UV_CACHE_DIR=/var/cache/uv UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
COPY docker/requirements/build.txt /requirements/
RUN python3 -m venv /opt/tools \
 && /opt/tools/bin/pip install --no-cache-dir --require-hashes --requirement /requirements/build.txt \
 && python3 -m venv --without-pip /opt/kennel

# The code itself: laid over an environment of packages, which it leaves alone when it changes.
FROM tools AS code
WORKDIR /project
COPY pyproject.toml README.md LICENSE ./
COPY serve serve
COPY train train
COPY local local
COPY scripts scripts
RUN /opt/tools/bin/uv build --wheel --no-build-isolation --python /opt/tools/bin/python --out-dir /wheel \
 && /opt/tools/bin/uv pip install --python /opt/kennel/bin/python --no-deps --no-cache --prefix /code /wheel/*.whl

FROM tools AS packages
# Some packages come as source, sagemaker-training with a little C.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev
COPY docker/requirements/train.txt /requirements/
RUN --mount=type=cache,id=uv,target=/var/cache/uv \
    /opt/tools/bin/uv pip sync --python /opt/kennel/bin/python --require-hashes \
      --build-constraints /requirements/build.txt /requirements/train.txt \
 && /opt/tools/bin/uv pip check --python /opt/kennel/bin/python
# The list of fonts, which matplotlib would make anew in every container.
ENV MPLCONFIGDIR=/opt/kennel/matplotlib
RUN /opt/kennel/bin/python -c 'import matplotlib.font_manager'

FROM ${CUDA_IMAGE} AS cuda
# /usr/local/cuda is a chain of links, which COPY would not follow.
RUN cp --archive "$(readlink --canonicalize /usr/local/cuda/compat)" /compat

FROM ${PYTHON_IMAGE}
ARG PYTHON_IMAGE
# USER and HOME: torch wants both, and a user given with --user has neither.
# No NVIDIA_REQUIRE_CUDA: with an older driver the runtime would refuse to start, without a log.
ENV PATH=/opt/kennel/bin:${PATH} PYTHONUNBUFFERED=1 USER=kennel HOME=/tmp MPLCONFIGDIR=/opt/kennel/matplotlib \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
LABEL org.opencontainers.image.title=kennel-train \
      org.opencontainers.image.description="Trains a classifier of photos as an Amazon SageMaker training job." \
      org.opencontainers.image.licenses=Apache-2.0 \
      org.opencontainers.image.base.name=${PYTHON_IMAGE}
ENTRYPOINT ["train"]
COPY --from=packages /opt/kennel /opt/kennel
# For hosts whose driver is older than CUDA 13: serve/cuda.py looks at start.
COPY --from=cuda /compat /usr/local/cuda/compat
# Our `train` replaces the command of that name which sagemaker-training installs.
COPY --from=code /code /opt/kennel

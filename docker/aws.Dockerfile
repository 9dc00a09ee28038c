# AWS's APIs on this machine (moto): S3, ECR, STS, IAM, CloudWatch and Logs on port 5000. From the root of the project:
#
#   docker build --file docker/aws.Dockerfile --tag kennel-aws .
#
# A base image can be pinned: --build-arg PYTHON_IMAGE=python@sha256:...
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# What builds. It stays behind.
FROM ${PYTHON_IMAGE} AS tools
# The system's certificates count, for whoever builds behind a company's proxy.
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt UV_SYSTEM_CERTS=1 \
    UV_CACHE_DIR=/var/cache/uv UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
COPY docker/requirements/build.txt /requirements/
RUN python3 -m venv /opt/tools \
 && /opt/tools/bin/pip install --no-cache-dir --require-hashes --requirement /requirements/build.txt \
 && python3 -m venv --without-pip /opt/kennel

FROM tools AS packages
COPY docker/requirements/aws.txt /requirements/
RUN --mount=type=cache,id=uv,target=/var/cache/uv \
    /opt/tools/bin/uv pip sync --python /opt/kennel/bin/python --require-hashes /requirements/aws.txt \
 && /opt/tools/bin/uv pip check --python /opt/kennel/bin/python

FROM ${PYTHON_IMAGE}
ARG PYTHON_IMAGE
ENV PATH=/opt/kennel/bin:${PATH} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
LABEL org.opencontainers.image.title=kennel-aws \
      org.opencontainers.image.description="AWS's APIs without an account, for trying Kennel on one machine." \
      org.opencontainers.image.licenses=Apache-2.0 \
      org.opencontainers.image.base.name=${PYTHON_IMAGE}
EXPOSE 5000
ENTRYPOINT ["moto_server", "--host", "0.0.0.0", "--port", "5000"]
COPY --from=packages /opt/kennel /opt/kennel
USER nobody

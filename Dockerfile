# This package with everything that it needs, for CPUs or NVIDIA GPUs; docs/docker.md says how it is used.
#
#   docker build -t recbole-lcrec .
#   docker build -t recbole-lcrec:cuda --build-arg BASE=nvidia/cuda:12.8.1-runtime-ubuntu24.04 --build-arg TORCH_INDEX= .

# Any image with Python 3.11 or newer, or with an apt that has it (Debian 12, Ubuntu 24.04)
ARG BASE=python:3.12-slim-bookworm
FROM ${BASE}

# Where torch comes from: PyTorch's index of builds for CPUs; empty is the ordinary index, whose builds bring CUDA along
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# Extras of this package beside serve and gguf, e.g. wandb,mlflow
ARG EXTRAS=

# A virtual environment: the Python of Debian and Ubuntu takes no packages from pip otherwise. CUDA's images have none.
RUN if ! python3 -c "import ensurepip, venv" 2> /dev/null; then \
        apt-get update \
        && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3 python3-venv \
        && rm -rf /var/lib/apt/lists/*; \
    fi \
    && python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1

# What changes seldom comes first, so that a change of the code does not install torch again. RecBole's own metadata
# forbid every Ray for today's Pythons (README), so it is installed without its dependencies, which are in the file.
WORKDIR /opt/recbole_lcrec
COPY requirements.txt ./
RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep '^torch==' requirements.txt)" \
    && pip install -r requirements.txt \
    && pip install --no-deps recbole==1.2.1

COPY pyproject.toml setup.py README.md LICENSE ./
COPY properties ./properties
COPY recbole_lcrec ./recbole_lcrec
RUN pip install -r requirements.txt ".[serve,gguf${EXTRAS:+,$EXTRAS}]" \
    && recbole-lcrec --help > /dev/null

# Not root. With --user any other account works, too: what is written goes to /work, which is a volume then; some
# libraries look for the account's name, which such an account does not have.
RUN useradd --uid 10001 --create-home --home-dir /work lcrec && chmod 1777 /work
ENV HOME=/work \
    USER=lcrec \
    LOGNAME=lcrec \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER lcrec
WORKDIR /work

# a server listens here with --serve_host=0.0.0.0
EXPOSE 8000
ENTRYPOINT ["recbole-lcrec"]
CMD ["--help"]

# The workflow with everything that it needs, for Docker, Podman and Apptainer. Nobody has built it yet: where it was
# written there was neither a daemon nor a registry.
#
#     docker build -t leod .                                          # PyTorch with CUDA
#     docker build -t leod --build-arg TORCH_INDEX=URL .              # for CPUs: URL as PyTorch's installation page says
#
# A study in the current folder, which receives results and data as those of the calling user:
#
#     docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" leod snakemake --configfile my-study.yaml
#     docker run --rm --gpus all --shm-size 8g … leod snakemake …     # with GPUs
#     docker run --rm leod leod --help                                # a single stage
#
#     apptainer build leod.sif docker-daemon:leod:latest
#     apptainer run --nv leod.sif snakemake --configfile my-study.yaml

ARG PYTHON=3.12
FROM python:${PYTHON}-slim

# What changes least comes first; PyTorch is most of the image. The versions are those of the locks.
ARG TORCH_INDEX=
COPY locks /opt/leod/locks
WORKDIR /opt/leod
RUN if [ -n "$TORCH_INDEX" ]; then \
        python -m pip install --no-cache-dir --index-url "$TORCH_INDEX" $(grep -oE '^torch(vision)?==[0-9.]+' locks/run.txt) \
        && python -m pip install --no-cache-dir --requirement locks/run-cpu.txt; \
    else \
        python -m pip install --no-cache-dir --requirement locks/run.txt; \
    fi

# The workflow and its package.
COPY . /opt/leod
RUN python -m pip install --no-cache-dir --no-deps . && rm -rf build ./*.egg-info

# Any user, also one without a home: caches go to where everybody may write.
ENV XDG_CACHE_HOME=/tmp/cache \
    NUMBA_CACHE_DIR=/tmp/cache/numba \
    MPLCONFIGDIR=/tmp/cache/matplotlib
RUN useradd --create-home --uid 1000 leod && mkdir /work && chown leod /work
USER leod
WORKDIR /work
ENTRYPOINT ["/bin/sh", "/opt/leod/envs/entrypoint.sh"]
CMD ["snakemake", "--help"]

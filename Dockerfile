# The service with its default bundles: serving dependencies, no compiler, no PyTorch. Mount other bundles over /bundles.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS dependencies
ARG EXTRAS=""
# Bytecode that the build of the project leaves behind would hold the time.
ENV PYTHONDONTWRITEBYTECODE=1
WORKDIR /build
COPY pyproject.toml constraints.txt requirements-serve.lock README.md LICENSE ./
# No module of ours is here yet, so that this layer changes with the dependencies alone; nor is any command but the
# service. Every file from the index has its hash in the lock file; only what EXTRAS adds is pinned by version alone.
# pip stays behind in an environment of its own; so do libraries' tests, sources in C, types and tools for other work
# than running graphs.
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/halfdepth \
    && pip="/opt/pip/bin/pip --python /opt/halfdepth/bin/python" && install="$pip install --no-cache-dir --no-compile" \
    && $install --require-hashes --requirement requirements-serve.lock \
    && $install --no-deps --no-build-isolation . \
    && if [ -n "${EXTRAS}" ]; then $install --no-build-isolation --constraint constraints.txt ".${EXTRAS}"; fi \
    && $pip uninstall --yes setuptools && $pip check \
    && find /opt/halfdepth -type d -name tests -prune -exec rm -rf {} + \
    && find /opt/halfdepth -type f -regex '.*\.\(c\|h\|pyx\|pxd\|pyi\)' -delete \
    && cd /opt/halfdepth/lib/python3*/site-packages \
    && rm -rf numpy/f2py numpy/distutils onnxruntime/datasets onnxruntime/quantization onnxruntime/tools onnxruntime/transformers \
    && rm /opt/halfdepth/bin/halfdepth

FROM ${BASE}
ARG VERSION=unknown REVISION=unknown
LABEL org.opencontainers.image.title="halfdepth" \
      org.opencontainers.image.description="Question answering, classification, embeddings and reranking over HTTP, by half-depth encoders in int8 on a CPU" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# SOURCE_DATE_EPOCH: or the day of the build would be that of the user's password.
RUN SOURCE_DATE_EPOCH=0 useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin halfdepth
COPY --from=dependencies /opt/halfdepth /opt/halfdepth
COPY bundles /bundles
WORKDIR /app
COPY models/__init__.py models/
COPY models/tasks models/tasks
COPY service service
# Bytecode of what the service imports, and of nothing else: at run time it may not write any. By the hash of its source
# instead of the time, so that the same commit gives the same bytes.
RUN /opt/halfdepth/bin/python -B -c "import os, py_compile, sys, service.__main__, service.healthcheck; \
    files = sorted({str(getattr(module, '__file__', None)) for module in sys.modules.values()}); \
    [py_compile.compile(file, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH) \
     for file in files if file.endswith('.py') and not os.path.exists(py_compile.importlib.util.cache_from_source(file))]"
ENV HALFDEPTH_BUNDLES=/bundles HALFDEPTH_HOST=0.0.0.0 HALFDEPTH_PORT=8000 PYTHONDONTWRITEBYTECODE=1
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["/opt/halfdepth/bin/python", "-m", "service.healthcheck"]
ENTRYPOINT ["/opt/halfdepth/bin/python", "-m", "service"]

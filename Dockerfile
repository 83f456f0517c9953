# The service with its default bundles: serving dependencies, no compiler, no PyTorch. Mount other bundles over /bundles.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS dependencies
ARG EXTRAS=""
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE ./
# No module of ours is here yet, so that this layer changes with the dependencies alone; nor is any command but the
# service. pip stays behind in an environment of its own, libraries' tests stay out.
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/halfdepth \
    && /opt/pip/bin/pip --python /opt/halfdepth/bin/python install --no-cache-dir --no-compile --constraint constraints.txt ".${EXTRAS}" \
    && find /opt/halfdepth -type d -name tests -prune -exec rm -rf {} + \
    && rm /opt/halfdepth/bin/halfdepth

FROM ${BASE}
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin halfdepth
COPY --from=dependencies /opt/halfdepth /opt/halfdepth
COPY bundles /bundles
WORKDIR /app
COPY models/__init__.py models/
COPY models/tasks models/tasks
COPY service service
# Bytecode of what the service imports, and of nothing else: at run time it may not write any.
RUN /opt/halfdepth/bin/python -c "import service.__main__, service.healthcheck"
ENV HALFDEPTH_BUNDLES=/bundles HALFDEPTH_HOST=0.0.0.0 HALFDEPTH_PORT=8000 PYTHONDONTWRITEBYTECODE=1
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["/opt/halfdepth/bin/python", "-m", "service.healthcheck"]
ENTRYPOINT ["/opt/halfdepth/bin/python", "-m", "service"]

# edge in an image: docker build -t edge . (the compose files here build it, too)
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY edge edge
COPY backend backend
COPY certs certs
RUN python -m venv /opt/edge && /opt/edge/bin/pip install --no-cache-dir --disable-pip-version-check .

FROM python:3.12-slim
COPY --from=build /opt/edge /opt/edge
# A user who owns nothing but the folder for what lasts: a named volume there is theirs, too.
RUN install -d -m 0700 -o 10001 -g 10001 /data /data/edge && install -d /app
ENV PATH=/opt/edge/bin:$PATH EDGE_HOME=/data/edge PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /app
EXPOSE 8443
# Asks the master, which answers for edges and workers; no request, so no line in the access log.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["edge", "status"]
CMD ["edge", "serve", "--dev", "--host", "0.0.0.0", "--port", "8443", "app:app"]

# The image of every process: `serve`, unless another command is named.
#
#     docker build -t budget-gateway .
#     docker run -e GATEWAY_REDIS_URL=redis://... -p 8080:8080 budget-gateway
#     docker run -e GATEWAY_REDIS_URL=... -e GATEWAY_DATABASE_URL=... budget-gateway worker

FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
COPY lua lua
COPY workers workers
# Without the extra `embedded`: in production Redis and Postgres are real servers elsewhere.
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel . \
    && python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir /wheel/*.whl

FROM python:3.13-slim
# The number is fixed, so that a volume or a security context can name it.
RUN groupadd --gid 10001 gateway \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/budget-gateway gateway \
    && install -d -m 0700 -o 10001 -g 10001 /var/lib/budget-gateway /var/lib/budget-gateway/spool
COPY --from=build /opt/venv /opt/venv
# A container's own network is its loopback: what is to be reached must listen on all of it.
ENV PATH=/opt/venv/bin:$PATH \
    GATEWAY_HOST=0.0.0.0 \
    GATEWAY_OPS_HOST=0.0.0.0 \
    GATEWAY_SPOOL_DIR=/var/lib/budget-gateway/spool \
    GATEWAY_CREDENTIALS_DIR=/etc/budget-gateway/credentials
WORKDIR /var/lib/budget-gateway
USER 10001:10001
# Settles that could not reach Redis: the next container replays them, so they outlive this one.
VOLUME ["/var/lib/budget-gateway/spool"]
EXPOSE 8080 9464
STOPSIGNAL SIGTERM
# Asks `serve`; for a worker: --health-cmd 'budget-gateway healthcheck worker'.
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s --retries=3 \
    CMD ["budget-gateway", "healthcheck"]
ENTRYPOINT ["budget-gateway"]
CMD ["serve"]

# syntax=docker/dockerfile:1
# By digest, so that a moved tag changes nothing unnoticed; Renovate updates both.
ARG NODE_IMAGE=docker.io/library/node:24.21.0-trixie-slim@sha256:8ec5d7557396cfe32d21c3f9c13072355ceab22b584578ca4bb28af31120cffe
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian13:nonroot@sha256:54df941ed0d06a1bd95ef5e0ce391fd8d9f94b64782dc9a60062727849ee3f97

FROM ${NODE_IMAGE} AS node

# Compiled files and packages are the same for every platform, so these stages run on the builder's own, not emulated.
FROM --platform=${BUILDPLATFORM} ${NODE_IMAGE} AS build
WORKDIR /app
COPY package.json package-lock.json ./
# No install scripts: none is needed to compile, and each would run unreviewed code.
RUN --mount=type=cache,target=/root/.npm npm ci --ignore-scripts --no-audit --no-fund
COPY . .
RUN node node_modules/@nestjs/cli/bin/nest.js build

FROM --platform=${BUILDPLATFORM} ${NODE_IMAGE} AS dependencies
WORKDIR /app
COPY package.json package-lock.json ./
# Optional dependencies of the libraries, such as TypeScript and Cloudflare's sockets, are not needed here.
RUN --mount=type=cache,target=/root/.npm npm ci --omit=dev --omit=optional --ignore-scripts --no-audit --no-fund

# Node.js is copied from the build's image, for the target platform, so that both have the very same version; there is no
# shell, no npm.
FROM ${RUNTIME_IMAGE} AS runtime
COPY --from=node /usr/local/bin/node /usr/local/bin/node
WORKDIR /app
COPY --from=dependencies /app/node_modules node_modules
# NODE_OPTIONS is for programs that `kubectl exec` starts beside the service, without the entry point: kafkajs sets timers
# that lie in the past, and Node would warn of them each time.
ENV NODE_ENV=production NODE_OPTIONS=--disable-warning=TimeoutNegativeWarning
# Numeric, for Kubernetes' runAsNonRoot. Everything above belongs to root: the process can change nothing of it.
USER 65532:65532
# Exec form: Node.js is process 1 and gets SIGTERM itself. The flags are those of `npm run start:prod`. Without the first,
# SIGUSR1 would open Node's inspector. In a container of 512 MiB Node.js would make the young generation so small that its
# collection cost a third of the throughput; 16 MiB is what it chooses on a larger machine.
ENTRYPOINT ["/usr/local/bin/node", "--disable-sigusr1", "--enable-source-maps", "--disable-warning=TimeoutNegativeWarning", "--max-semi-space-size=16"]

# For compose.yaml only: the payment API that misbehaves on demand.
FROM runtime AS payment-simulator
COPY --from=build /app/dist/apps/sandbox/src dist/apps/sandbox/src
EXPOSE 4100
CMD ["dist/apps/sandbox/src/payment-api-main.js"]

# Last, so that `docker build` makes it when no target is named.
FROM runtime AS service
COPY --from=build /app/dist/libs dist/libs
COPY --from=build /app/dist/apps/order-service dist/apps/order-service
EXPOSE 3000
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="order-a2a-service" \
      org.opencontainers.image.description="Orders from programs, accepted once, paid once, told through Kafka" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
# Other programs of the service run by naming them: dist/apps/order-service/src/database/migrate.js, topics.js, dlq.js, …
CMD ["dist/apps/order-service/src/main.js"]

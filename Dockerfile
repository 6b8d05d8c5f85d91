# The image: one static binary, the authorities that it trusts, licences and the list of what it is made of. No shell.
#
#   docker build --build-arg SOURCE_DATE_EPOCH="$(git log -1 --format=%ct)" --build-arg REVISION="$(git rev-parse HEAD)" -t aoai-auth-proxy .
#
# All steps are scripts in packaging/, which run without an engine, too. It cross-compiles: `--platform linux/arm64` needs no emulation.

FROM --platform=$BUILDPLATFORM rust:1.95-slim-bookworm AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# hadolint ignore=DL3008 # what leaves this stage does not depend on their versions
RUN apt-get update \
    && apt-get install --yes --no-install-recommends binutils ca-certificates gcc libc6-dev python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src

# The tools: built once, and anew if their versions change.
COPY packaging/tools packaging/tools
# hadolint ignore=SC1091
RUN . packaging/tools \
    && need_zigbuild /target/tools \
    && need_cargo_tool cyclonedx "$CARGO_CYCLONEDX" \
    && rm -rf /usr/local/cargo/registry

# The program. Downloaded crates and what was compiled of them stay in the builder's cache.
COPY . .
ARG TARGETARCH
ARG SOURCE_DATE_EPOCH=0
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,id=target-$TARGETARCH,target=/target/build \
    case "$TARGETARCH" in \
      amd64) target=x86_64-unknown-linux-musl ;; \
      arm64) target=aarch64-unknown-linux-musl ;; \
      *) echo "no recipe for $TARGETARCH" >&2; exit 1 ;; \
    esac \
    && mkdir -p /target/build && ln -sfn /target/tools /target/build/tools \
    && binary=$(CARGO_TARGET_DIR=/target/build packaging/build "$target") \
    && packaging/notices "$target" /notices \
    && packaging/rootfs "$binary" /notices /rootfs

FROM scratch
ARG REVISION=
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="aoai-auth-proxy" \
      org.opencontainers.image.description="A local authenticating reverse proxy for Azure OpenAI: plain OpenAI requests in, Microsoft Entra tokens on." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /rootfs/ /
ENV PATH=/usr/bin
# A number, so that Kubernetes can see that it is not root. No user database knows it, and none is needed.
USER 65532:65532
EXPOSE 8642
# It takes the same configuration as the proxy, to find the address. Not `--ready`: a missing token is no reason to restart.
HEALTHCHECK --interval=10s --timeout=6s --start-period=5s CMD ["aoai-auth-proxy", "health"]
ENTRYPOINT ["aoai-auth-proxy"]

# A server in a small image without a shell, under a user of its own.
#
#   docker build -t okmsd .
#   docker run --rm -v okmsd:/var/lib/okmsd okmsd init --data-dir /var/lib/okmsd --name HOSTNAME
#   docker run -d -v okmsd:/var/lib/okmsd -p 8443:8443 -p 8444:8444 okmsd

FROM rust:1-slim-bookworm AS build
# The cryptography and SQLite are C.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential cmake \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin okmsd \
    && install -d -m 0700 /out/okmsd

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/okmsd /usr/local/bin/okmsd
# A new volume takes owner and mode from here. 65532 is the image's user nonroot.
COPY --from=build --chown=65532:65532 /out /var/lib
WORKDIR /var/lib/okmsd
VOLUME /var/lib/okmsd
# Inside a container, loopback cannot be reached from outside.
ENV OKMSD_CONFIG=/var/lib/okmsd/okmsd.toml \
    OKMSD_API_LISTEN=0.0.0.0:8443 \
    OKMSD_DOCS_LISTEN=0.0.0.0:8444
EXPOSE 8443 8444
USER 65532:65532
HEALTHCHECK --interval=30s --timeout=10s --start-period=10s \
    CMD ["/usr/local/bin/okmsd", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/okmsd"]
CMD ["serve"]

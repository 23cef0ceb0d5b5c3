# Stands in for valkey/valkey in the chart's tests. Debian 12 has no Valkey; its Redis 7.0 is what
# Valkey was forked from, with the same protocol, options and Lua. The commands have Valkey's names.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN groupadd --gid 999 valkey && useradd --uid 999 --gid 999 --home-dir /data valkey \
    && apt-get update \
    && apt-get install --yes --no-install-recommends redis-server \
    && ln -s redis-server /usr/bin/valkey-server && ln -s redis-cli /usr/bin/valkey-cli \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /usr/share/doc/* /usr/share/man/* \
    && install -d -o 999 -g 999 /data
WORKDIR /data
USER 999:999
EXPOSE 6379
CMD ["valkey-server"]

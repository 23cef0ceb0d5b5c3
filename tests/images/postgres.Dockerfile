# Stands in for postgres:15 in the chart's tests: Debian's PostgreSQL 15, with as much of the official
# image's entry point as a chart uses.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
# The user before the package, which would give it another number; no cluster of Debian's own; and
# no LLVM, which is a third of the image and compiles queries that take longer than any here.
RUN groupadd --gid 999 postgres \
    && useradd --uid 999 --gid 999 --home-dir /var/lib/postgresql postgres \
    && mkdir /etc/postgresql-common \
    && echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf \
    && apt-get update \
    && apt-get install --yes --no-install-recommends postgresql-15 \
    && rm -rf /usr/lib/postgresql/15/lib/llvmjit.so /usr/lib/*/libLLVM* /var/lib/apt/lists/* /var/cache/apt/* /usr/share/doc/* /usr/share/man/* \
    && install -d -o 999 -g 999 -m 3777 /var/run/postgresql \
    && install -d -o 999 -g 999 -m 1777 /var/lib/postgresql/data
COPY docker-entrypoint.sh /usr/local/bin/
ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PGDATA=/var/lib/postgresql/data \
    LANG=C.UTF-8
USER 999:999
EXPOSE 5432
STOPSIGNAL SIGINT
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]

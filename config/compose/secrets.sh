#!/bin/sh
# secrets.sh FOLDER: what compose.yaml's services share. What is there already stays. Keys go into files that only the
# services' users read: `ingest` and `search` for the API, `clickhouse` and `grafana` for the engine.
set -eu
umask 027
cd "$1"

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

if [ ! -s tenants.yaml ]; then
  for scope in ingest search; do
    made=$(pulsestream-collector tenant key make 2>/dev/null)
    printf '%s' "$made" | sed -n 's/^API key *//p' > "$scope.new"
    printf '%s' "$made" | sed -n 's/^key_sha256 *//p' > "$scope.sha256"
  done
  {
    echo "tenants:"
    echo "  - slug: demo"
    echo "    name: Demo"
    echo "    keys:"
    echo "      - {name: agents, scopes: [ingest], key_sha256: $(cat ingest.sha256)}"
    echo "      - {name: analysts, scopes: [search], key_sha256: $(cat search.sha256)}"
  } > tenants.new
  for name in clickhouse grafana; do random > "$name.new"; mv "$name.new" "$name"; done
  mv ingest.new ingest
  mv search.new search
  rm -f ingest.sha256 search.sha256
  mv tenants.new tenants.yaml
fi
# 101 is the engine's user in its image; the images of PulseStream run as 10001.
if [ "$(id -u)" = 0 ]; then
  chown 10001:10001 . ingest search tenants.yaml grafana
  chown 101:10001 clickhouse
fi
chmod 0755 .
chmod 0440 ingest search tenants.yaml clickhouse grafana

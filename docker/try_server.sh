#!/usr/bin/env bash
# Tries an export on the real TensorFlow Serving, in Docker:
#
#   python export.py --workdir=runs/a --export_dir=models/a --serving_config
#   docker/try_server.sh models/a runs/a
#
# It starts the server's image of the exporter's TensorFlow, runs every check and
# a load test over gRPC and REST, and asks `minigpt serve` in front of it for
# text. All of it is written to try_server.log, too. It exits with 0 only if
# nothing failed. The run is optional: with it, answers are compared with the
# live model's.
#
# Variables: PYTHON, of an environment with minigpt[serve]; GRPC_PORT, REST_PORT
# and HTTP_PORT, which must be free.
#
# Not run with Docker yet, as there was none where it was written: each of its
# commands was run against the emulator of the tests.
set -euo pipefail

if [ $# -lt 1 ] || [ ! -f "$1/models.config" ]; then
  echo "usage: $0 EXPORT_DIR [WORKDIR], of an export with --serving_config" >&2
  exit 2
fi
EXPORT=$(realpath "$1")
MODEL=$(basename "$EXPORT")
: "${GRPC_PORT:=8500}" "${REST_PORT:=8501}" "${HTTP_PORT:=8000}"
workdir=${2:+--workdir=$(realpath "$2")}
log=$PWD/try_server.log
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
# The newest version, which the server takes, and the TensorFlow that wrote it.
newest='
import json, pathlib, sys
found = max(
  (int(p.name), p) for p in pathlib.Path(sys.argv[1]).iterdir()
  if p.name.isdecimal()
)[1]
card = json.loads((found / "assets.extra" / "model.json").read_text())
print(found, card["versions"]["tensorflow"], sep="\n")'
{
  read -r version
  read -r TENSORFLOW
} < <("$python" -c "$newest" "$EXPORT")
export EXPORT MODEL TENSORFLOW GRPC_PORT REST_PORT

failed=()
step() {
  echo "== $*"
  "$@" || failed+=("$*")
}

server() {
  docker compose --file docker/compose.yaml "$@"
}

wait_for() {
  for _ in $(seq 120); do
    if curl --silent --fail --output /dev/null "$1"; then return 0; fi
    sleep 1
  done
  echo "no answer of $1 within two minutes" >&2
  return 1
}

check() {
  local target=(--model_name="$MODEL" --protocol="$1" --target="localhost:$2")
  local files=(--export_dir="$version" ${workdir:+"$workdir"})
  step "$python" -m minigpt serve-check "${target[@]}" "${files[@]}"
  step "$python" -m minigpt serve-check "${target[@]}" --load_test \
    --requests=200 --concurrency=8
}

ask_over_http() {
  local url=http://localhost:$HTTP_PORT status=0
  "$python" -m minigpt serve --export_dir="$EXPORT" --model_name="$MODEL" \
    --target="localhost:$GRPC_PORT" --port="$HTTP_PORT" &
  local pid=$!
  # Tokens, as any vocabulary has these.
  wait_for "$url/health" &&
    curl --silent --show-error --fail-with-body "$url/v1/completions" \
      --data '{"model": "'"$MODEL"'", "prompt": [0, 1], "max_tokens": 20}' ||
    status=1
  echo
  kill "$pid" 2>/dev/null && wait "$pid" || status=1
  return "$status"
}

main() {
  date
  echo "tensorflow/serving:$TENSORFLOW, $version"
  trap 'server logs --no-color; server down --timeout 5' EXIT
  server up --detach
  if wait_for "http://localhost:$REST_PORT/v1/models/$MODEL"; then
    check grpc "$GRPC_PORT"
    check rest "$REST_PORT"
    step ask_over_http
  else
    failed+=('start of the server')
  fi
  if [ ${#failed[@]} -eq 0 ]; then
    echo 'all passed'
  else
    printf 'FAILED: %s\n' "${failed[@]}"
    return 1
  fi
}

main 2>&1 | tee "$log"

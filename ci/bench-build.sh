#!/usr/bin/env bash
# The benches compile. What they measure is for a quiet machine.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo bench --no-run

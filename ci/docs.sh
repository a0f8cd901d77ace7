#!/usr/bin/env bash
# The documentation builds without a warning: no broken link, no missing page.
set -euo pipefail
cd "$(dirname "$0")/.."

RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --all-features

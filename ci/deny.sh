#!/usr/bin/env bash
# Licences, sources and wildcards of all dependencies, by the rules in deny.toml. The advisories need a database that
# is fetched from outside, and are not asked. Installs cargo-deny where it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo deny --version >/dev/null 2>&1; then
    cargo install --locked --quiet --debug cargo-deny # twice as soon, and it has little to do
fi
cargo deny --all-features check bans licenses sources

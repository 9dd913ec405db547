#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs all static checks, each whether or not one before it failed; exits 1 if any did.
set -u
cd "$(dirname "$0")/.." || exit 1
bin=.venv/bin
failed=

check() { # check NAME COMMAND...
    name=$1
    shift
    printf 'lint: %s\n' "$name"
    "$@" || failed="$failed $name"
}
check ruff $bin/ruff check --quiet .
check "ruff-format" $bin/ruff format --check --quiet .
check mypy $bin/mypy
if command -v shellcheck > /dev/null; then
    git ls-files -z '*.sh' .ci/run | xargs -0 -r shellcheck --severity=warning || failed="$failed shellcheck"
fi
if [ -n "$failed" ]; then
    printf 'lint: FAILED:%s\nlint: what to do: %s\n' "$failed" \
        "mend the lines above; '$bin/ruff check --fix .' and '$bin/ruff format .' mend many by themselves" >&2
    exit 1
fi
echo "lint: all good"

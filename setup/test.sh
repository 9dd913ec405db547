#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs the tests given (paths and options of pytest), or all of them with the check of coverage.
set -eu
cd "$(dirname "$0")/.."
PATH=$PWD/.venv/bin:$PATH
export PATH
if [ $# -gt 0 ]; then
    exec python -m pytest "$@"
fi
export BATON_COVERAGE=check
exec python -m pytest --cov --cov-report=

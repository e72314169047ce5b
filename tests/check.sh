#!/bin/sh
# Set up an environment of its own in .venv and run every check: style, types, import contract, tests.
set -eu
cd "$(dirname "$0")/.."

python=""
for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null 2>&1 &&
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || { echo "wa needs Python 3.11 or newer" >&2; exit 2; }

[ -x .venv/bin/python ] || "$python" -m venv .venv
install() {
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --retries 10 --timeout 60 --editable '.[test]'
}
# The package index may be out of reach for a moment: that says nothing about the code.
install || { sleep 10; install; } || { sleep 60; install; }

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/lint-imports
# Hundreds of processes start below: none of them should compile wa anew, whatever the environment says of bytecode.
.venv/bin/python -m compileall -q wa_cli tests
.venv/bin/python -m pytest -n 3 --dist worksteal "$@"

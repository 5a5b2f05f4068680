#!/usr/bin/env bash
# openapi-python-client 0.29.1 cannot generate a client for a form (multipart/form-data) that takes lists of files under names of
# the caller's choice: `additionalProperties` with an array of binary strings, which is valid OpenAPI 3.1. It writes a model
# whose loop has no body, stops with exit code 1 and leaves the package behind, whose import fails with IndentationError. One
# file a name is generated well.
#
# Needs python3 with venv, and PyPI. Fails if the behaviour changes.
# Output seen (2026-11-27, Python 3.11):
#   one file a name: exit code 0, the model can be imported
#   a list of files a name: exit code 1, the model cannot be imported: IndentationError
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

python3 -m venv venv
venv/bin/pip install --quiet openapi-python-client==0.29.1
cat > documents.py <<'PY'
"""Writes two documents that differ in what a name of the form holds."""
import json

FILE = {"type": "string", "format": "binary"}
for name, held in {"one": FILE, "list": {"type": "array", "items": FILE}}.items():
    form = {"type": "object", "additionalProperties": held}
    content = {"multipart/form-data": {"schema": {"$ref": "#/components/schemas/Pictures"}}}
    send = {"operationId": "send", "tags": ["all"], "requestBody": {"content": content}, "responses": {"204": {"description": "done"}}}
    document = {
        "openapi": "3.1.0",
        "info": {"title": name, "version": "1"},
        "paths": {"/pictures": {"post": send}},
        "components": {"schemas": {"Pictures": form}},
    }
    json.dump(document, open(f"{name}.json", "w"))
PY
venv/bin/python documents.py

# try NAME: the exit code of the generator, and what importing the model says.
try() {
    local code=0 says
    PATH=$PWD/venv/bin:$PATH venv/bin/openapi-python-client generate --path "$1.json" --output-path "$1" >"$1.log" 2>&1 || code=$?
    says=$(cd "$1" && ../venv/bin/python -c "import ${1}_client.models" 2>&1 | tail -1 | cut -d: -f1)
    echo "$code ${says:-imported}"
}

one=$(try one)
list=$(try list)
[ "$one" = "0 imported" ] || { echo "one file a name: $one"; exit 1; }
[ "$list" = "1 IndentationError" ] || { echo "a list of files a name: $list"; exit 1; }
echo "one file a name: exit code 0, the model can be imported"
echo "a list of files a name: exit code 1, the model cannot be imported: IndentationError"

"""launchctl: ask the fake launchd, tests/darwin/launchd.py."""

import json
import socket
import sys
from pathlib import Path

root, words = Path(sys.argv[1]), sys.argv[2:]
facts = json.loads((root / "facts.json").read_text())
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(str(root / "launchd.sock"))
    uid = 0 if facts["root"] else facts["uid"]
    connection.sendall(json.dumps({"words": words, "uid": uid}).encode() + b"\n")
    with connection.makefile() as stream:
        code, out, err = json.loads(stream.read())
if out:
    print(out)
if err:
    print(err, file=sys.stderr)
sys.exit(code)

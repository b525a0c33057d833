"""sysctl: `NAME: value` lines, or values alone with -n.

An unknown name: up to system_cmds 970 (macOS 14.3) it ends there, later it goes on; with -i it says nothing.
"""

import json
import os
import sys
from pathlib import Path

facts = json.loads((Path(sys.argv[1]) / "facts.json").read_text())
options = "".join(word[1:] for word in sys.argv[2:] if word.startswith("-"))
values, code = facts["sysctl"], 0
major, _, rest = str(facts["macos"]).partition(".")
stops = (int(major), int(rest.partition(".")[0] or 0)) < (14, 4)
for name in (word for word in sys.argv[2:] if not word.startswith("-")):
    if "=" in name:
        key, _, value = name.partition("=")
        if not facts["root"]:
            print(f"sysctl: {key}: Operation not permitted", file=sys.stderr)
            sys.exit(1)
        print(f"{key}: {values.get(key, '0')} -> {value}")
        facts["sysctl"][key] = value
        new = Path(sys.argv[1]) / f"facts.{os.getpid()}"
        new.write_text(json.dumps(facts))
        new.replace(Path(sys.argv[1]) / "facts.json")
    elif name in values:
        print(values[name] if "n" in options else f"{name}: {values[name]}")
    elif "i" not in options:
        print(f"sysctl: unknown oid '{name}'", file=sys.stderr)
        code = 1
        if stops:
            break
sys.exit(code)

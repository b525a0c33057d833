"""sw_vers: the version of macOS."""

import json
import sys
from pathlib import Path

facts = json.loads((Path(sys.argv[1]) / "facts.json").read_text())
values = {"ProductName": "macOS", "ProductVersion": facts["macos"], "BuildVersion": facts["build"]}
asked = sys.argv[2].lstrip("-").lower() if len(sys.argv) > 2 else None
for name, value in values.items():
    if asked is None:
        print(f"{name}:\t\t{value}")
    elif asked == name.lower():
        print(value)

"""xattr: the quarantine mark of the files that ``facts.json`` names."""

import json
import sys
from pathlib import Path

NAME = "com.apple.quarantine"
facts = json.loads((Path(sys.argv[1]) / "facts.json").read_text())
words = [word for word in sys.argv[2:] if not word.startswith("-")]
file = words[-1]
marked = any(file == each or file.startswith(f"{each}/") for each in facts["quarantined"])
if "-p" in sys.argv:
    if not marked:
        print(f"xattr: {file}: No such xattr: {NAME}", file=sys.stderr)
        sys.exit(1)
    print("0081;6650c0de;Safari;F643CD5F-6071-46AB-83AB-390BA944DEC5")
elif marked:
    print(NAME)

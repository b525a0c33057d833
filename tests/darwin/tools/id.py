"""id: the first user of this Mac."""

import json
import sys
from pathlib import Path

facts = json.loads((Path(sys.argv[1]) / "facts.json").read_text())
uid = 0 if facts["root"] else facts["uid"]
print({"-u": uid, "-un": "mac", "-g": 20, "-gn": "staff"}.get(sys.argv[-1], f"uid={uid}(mac) gid=20(staff)"))

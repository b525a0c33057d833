"""pmset -g: the settings in use. Source of the form: pmset(1) and public captures of macOS 12 to 15."""

import json
import sys
from pathlib import Path

facts = json.loads((Path(sys.argv[1]) / "facts.json").read_text())
if sys.argv[2:] not in (["-g"], ["-g", "live"]):
    print("Usage: pmset <options>")
    sys.exit(1)
rows = {
    "standby": 1,
    "Sleep On Power Button": 1,
    "hibernatefile": "/var/vm/sleepimage",
    "powernap": 1,
    "networkoversleep": 0,
    "disksleep": 10,
    "sleep": 1,
    "hibernatemode": 3,
    "ttyskeepawake": 1,
    "displaysleep": 10,
    "tcpkeepalive": 1,
    "lowpowermode": int(facts["low_power_mode"]),
    "womp": 1,
}
print("System-wide power settings:\nCurrently in use:")
for name, value in rows.items():
    print(f" {name:<20} {value}")

"""vm_stat, in the form of macOS 14 and 15. Source of the form: public captures of 16 KiB machines."""

import json
import sys
from pathlib import Path

facts = json.loads((Path(sys.argv[1]) / "facts.json").read_text())
print(f"Mach Virtual Memory Statistics: (page size of {facts['page_bytes']} bytes)")
for name in ("free", "active", "inactive", "speculative", "throttled", "wired down", "purgeable"):
    print(f"{f'Pages {name}:':<30}{facts['vm_stat'].get(name, 0):>24}.")
print(f"{chr(34)}Translation faults{chr(34)}:{999999999:>33}.")
for name in (
    "File-backed pages",
    "Anonymous pages",
    "Pages stored in compressor",
    "Pages occupied by compressor",
):
    print(f"{f'{name}:':<30}{facts['vm_stat'].get(name, 0):>24}.")

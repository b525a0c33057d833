"""lsof -nP -iTCP:N -sTCP:LISTEN -Fpcn: who listens on a port, as the fields p, c, f and n.

Source of the form: lsof(8) of macOS, "OUTPUT FOR OTHER PROGRAMS". It knows these options alone. Where it
finds nothing, it exits with 1.
"""

import sys

import psutil

[port] = [int(word.removeprefix("-iTCP:")) for word in sys.argv[2:] if word.startswith("-iTCP:")]
found: dict[int, list[str]] = {}
for one in psutil.net_connections("tcp"):
    address, number = [*one.laddr, "", 0][:2]
    if one.status == psutil.CONN_LISTEN and one.pid is not None and number == port:
        host = {"0.0.0.0": "*", "::": "*"}.get(str(address), str(address))
        where = f"[{host}]" if ":" in host else host
        found.setdefault(one.pid, []).extend((f"f{one.fd}", f"n{where}:{port}"))
for pid, lines in found.items():
    print(f"p{pid}", f"c{psutil.Process(pid).name()}", *lines, sep="\n")
sys.exit(not found)

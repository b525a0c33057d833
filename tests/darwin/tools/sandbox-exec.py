"""sandbox-exec -p TEXT | -f FILE, then a command: judge the profile, then run the command.

It holds nothing back, so run nothing in it that must be held: tests/client/test_sandbox.py is Linux alone's.
tests/darwin/seatbelt_rules.py says what is judged. What macOS 26 denies at the start of a program ends it by
SIGABRT without a word (ai-jail #77); a symlink that may not be followed is told by sandbox-exec itself
(omnigent #2049).
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))
from tests.darwin.seatbelt_rules import Denied, begin, look, read, rules


def readlink(path: str) -> str | None:
    """Return where a symlink points to."""
    try:
        return os.readlink(path)  # noqa: PTH115  a string goes in and comes out
    except OSError:
        return None


def standard_library(python: str) -> str:
    """Return the file by which Python finds its library, as it finds it: pyvenv.cfg, then the folder."""
    home = Path(python).parent
    for line in (home.parent / "pyvenv.cfg").read_text().splitlines() if home.name == "bin" else ():
        name, _, value = line.partition(" = ")
        home = Path(value) if name == "home" else home
    [found, *_] = sorted(home.parent.glob("lib/python3*/os.py"))
    return str(found)


words, text = sys.argv[2:], ""
while words and words[0] in ("-f", "-p", "-n", "-D"):
    text = {"-p": words[1], "-f": ""}.get(words[0], text)
    text = Path(words[1]).read_text() if words[0] == "-f" else text
    words = words[2:]
try:
    known = rules(text)
except ValueError as error:
    sys.exit(f"sandbox-exec: {error}")
try:
    look(known, words[0], readlink)
except Denied:
    print(f"sandbox-exec: execvp() of '{words[0]}' failed: Operation not permitted", file=sys.stderr)
    sys.exit(71)
try:
    begin(known, words[0], readlink)
    if "python" in Path(words[0]).name:
        read(known, standard_library(words[0]), readlink)
    read(known, str(Path.cwd()), readlink)
except Denied:
    os.abort()
os.execvp(words[0], words)  # noqa: S606  it stands for a program that does just that

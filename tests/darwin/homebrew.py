"""What ``brew services start`` makes of the formula's ``service do``, without Homebrew.

Source: Homebrew, Library/Homebrew/service.rb: to_plist, std_service_path_env, default_plist_name.
"""

import re
from pathlib import Path
from typing import Any

FORMULA = Path(__file__).parents[2] / "packaging/homebrew/qwenctl.rb"
PREFIX = "/opt/homebrew"
PATHS = {"opt_bin": f"{PREFIX}/opt/qwenctl/bin", "var": f"{PREFIX}/var"}
SESSIONS = ["Aqua", "Background", "LoginWindow", "StandardIO", "System"]
KEYS = {"log_path": "StandardOutPath", "error_log_path": "StandardErrorPath"}


def service_lines(text: str) -> dict[str, str]:
    """Return the settings of the block: name and Ruby's words."""
    found = re.search(r"^  service do\n(.*?)^  end$", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return dict(line.strip().split(" ", 1) for line in found[1].splitlines() if line.strip())


def service_plist(text: str) -> dict[str, Any]:
    """Return the property list. A setting that is not known here is an error."""
    plist: dict[str, Any] = {
        "Label": "homebrew.mxcl.qwenctl",
        "RunAtLoad": True,
        "LimitLoadToSessionType": SESSIONS,
    }
    for name, words in service_lines(text).items():
        match name:
            case "run":
                plist["ProgramArguments"] = [_path(word) for word in words.strip("[]").split(", ")]
            case "keep_alive":
                assert words == "successful_exit: false"
                plist["KeepAlive"] = {"SuccessfulExit": False}
            case "process_type":
                plist["ProcessType"] = words.removeprefix(":").capitalize()
            case "environment_variables":
                assert words == "PATH: std_service_path_env"
                system = "/usr/bin:/bin:/usr/sbin:/sbin"
                plist["EnvironmentVariables"] = {"PATH": f"{PREFIX}/bin:{PREFIX}/sbin:{system}"}
            case _:
                plist[KEYS[name]] = _path(words)
    return plist


def _path(words: str) -> str:
    folder, slash, rest = words.partition('/"')
    return f"{PATHS[folder]}/{rest[:-1]}" if slash else words.strip('"')

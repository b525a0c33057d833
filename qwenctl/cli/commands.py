"""Every command and its line in the help. A command is the module of that name, with _ for -."""

COMMANDS = {
    "up": "Start the server, keep it running, and wait for its first token.",
    "down": "Stop the server and the daemon.",
    "restart": "Stop the server and start it again.",
    "reexec": "Put another version of qwenctl in the daemon's place, without a restart.",
    "run": "Run the daemon in the foreground.",
    "status": "Show what the daemon is doing.",
    "logs": "Show what the server printed.",
    "events": "Show what happened to the server, and why.",
    "explain": "Say what a llama-server's log means: why it ended, and what helps.",
    "plan": "Explain which quant and context this machine gets.",
    "fetch": "Download and verify the model file.",
    "argv": "Print llama-server's command line.",
    "engine": "Show, install, update or roll back the engine: llama.cpp's llama-server.",
    "hardware": "Show this machine's memory, CPU and GPUs.",
    "profiles": "List the model profiles, or the quants of one.",
    "models": "List the models on this disk, or remove some.",
    "chat": "Chat with the model, or ask one question in a pipe.",
    "check": "Check that the server works correctly.",
    "bench": "Measure the server's speed, compare results, and tune options.",
    "solve": "Let the model write code until its tests pass.",
    "connect": "Show how another program connects to the server, or set that program up.",
    "settings": "Show every setting and where its value comes from.",
    "service": "Install, inspect or remove the system service.",
    "doctor": "Look for problems on this machine, and say how to fix them.",
    "support-bundle": "Write an archive of logs and settings for a bug report.",
    "completion": "Print the completion script for a shell.",
}
OTHER_WORDS = {
    **dict.fromkeys(("start", "serve", "launch", "load", "init"), "up"),
    **dict.fromkeys(("stop", "kill", "quit", "shutdown", "unload", "exit"), "down"),
    **dict.fromkeys(("ps", "info", "health"), "status"),
    **dict.fromkeys(("list", "ls"), "models"),
    **dict.fromkeys(("pull", "download", "get"), "fetch"),
    **dict.fromkeys(("rm", "remove", "delete"), "models rm"),
    **dict.fromkeys(("prune",), "fetch --prune"),
    **dict.fromkeys(("show",), "plan"),
    **dict.fromkeys(("log", "tail"), "logs"),
    **dict.fromkeys(("config", "get-config", "env"), "settings"),
    **dict.fromkeys(("gpu", "gpus", "devices"), "hardware"),
    **dict.fromkeys(("ask", "generate"), "chat"),
    **dict.fromkeys(("benchmark",), "bench"),
    **dict.fromkeys(("test", "verify"), "check"),
    **dict.fromkeys(("install", "enable"), "service install"),
    **dict.fromkeys(("update", "upgrade"), "engine update"),
    **dict.fromkeys(("uninstall", "disable"), "service uninstall"),
    **dict.fromkeys(("version",), "--version"),
    **dict.fromkeys(("help",), "--help"),
}
"""What other tools call a command, and what it is called here. Source: ollama, lms, docker, systemctl."""
TAKES_A_MODEL = ("up", "fetch", "plan", "argv", "run", "models rm")
"""Commands that other tools give a model by name. ``run`` alone takes none here: it serves the settings."""
OTHER_OPTIONS = {
    "--host": "set [server] host in config.toml",
    **dict.fromkeys(("-m", "--model"), "name the model itself: qwenctl up MODEL"),
    **dict.fromkeys(("-c", "--ctx-size", "--context"), "--ctx N"),
}
"""What llama-server and others call an option, and how it is set here."""

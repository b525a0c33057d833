"""Every command and its line in the help. A command is the module of that name."""

COMMANDS = {
    "up": "Start the server, keep it up, and wait for its first token.",
    "down": "Stop the server and the daemon.",
    "restart": "Start the server afresh.",
    "run": "Run the daemon in the foreground.",
    "status": "Show what the daemon is doing.",
    "logs": "Show what the server printed.",
    "plan": "Explain which quant and context this machine gets.",
    "fetch": "Get the model file, nothing else.",
    "argv": "Print llama-server's command line.",
    "hardware": "Show what this machine is.",
    "profiles": "List the model profiles.",
    "chat": "Ask the model, in a conversation or in a pipe.",
    "check": "Check that the server does its job.",
    "bench": "Measure how fast it is, compare, and tune.",
    "solve": "Let the model write code until its tests pass.",
    "settings": "Show every setting and where its value comes from.",
}

"""Every command and its line in the help. A command is the module of that name, with _ for -."""

COMMANDS = {
    "up": "Start the server, keep it up, and wait for its first token.",
    "down": "Stop the server and the daemon.",
    "restart": "Start the server afresh.",
    "run": "Run the daemon in the foreground.",
    "status": "Show what the daemon is doing.",
    "logs": "Show what the server printed.",
    "events": "Show what happened and why.",
    "plan": "Explain which quant and context this machine gets.",
    "fetch": "Get the model file, nothing else.",
    "argv": "Print llama-server's command line.",
    "hardware": "Show what this machine is.",
    "profiles": "List the model profiles.",
    "settings": "Show every setting and where its value comes from.",
    "service": "Install, look at or remove the service.",
    "doctor": "Say what is wrong here, and what to do.",
    "support-bundle": "Write an archive for a bug report.",
    "completion": "Print the completion script of a shell.",
}

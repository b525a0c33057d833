"""What a command needs to talk to a daemon: its folder, its status, its socket."""

"""Install qwenctl as a service of systemd or launchd: what its files say, and how they get into place."""

"""Install qwenctl as a service of systemd or launchd."""

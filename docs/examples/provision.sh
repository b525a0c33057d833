#!/bin/sh
# Serve a model on this machine. Run it again at any time: it changes only what differs, and says so.
#
#   provision.sh              a daemon of the user who runs this
#   provision.sh user         a service of that user (systemd or launchd)
#   provision.sh system       a service of the machine; run it as root
#
# Ends with qwenctl's own exit codes: 2 a wrong setting, 4 nothing fits, 5 no llama-server, 6 no download,
# 7 no token in time. Data goes to stdout, one JSON object a command; progress goes to stderr.
set -eu

kind=${1:-daemon}
profile=${PROFILE:-qwen3.6-27b}
port=${PORT:-8080}

case $kind in
system) config=/etc/qwenctl/config.toml ;;
*) config=${XDG_CONFIG_HOME:-$HOME/.config}/qwenctl/config.toml ;;
esac

wanted=$(mktemp)
trap 'rm -f "$wanted"' EXIT
cat >"$wanted" <<TOML
profile = "$profile"

[server]
port = $port
TOML

# A wrong setting stops here, before anything is replaced.
qwenctl --json settings check "$wanted"
if ! cmp -s "$wanted" "$config"; then
	mkdir -p "$(dirname "$config")"
	cp "$wanted" "$config"
	chmod 644 "$config"
fi

case $kind in
daemon)
	qwenctl --json fetch
	qwenctl --json up
	;;
user | system)
	qwenctl --json service install "--$kind" --wait
	;;
*)
	echo "provision.sh: daemon, user or system, not $kind" >&2
	exit 2
	;;
esac

#!/usr/bin/env osascript -l JavaScript
// <swiftbar.title>qwenctl</swiftbar.title>
// <swiftbar.desc>The local model in the menu bar: what it does, and start, restart, stop.</swiftbar.desc>
// <swiftbar.dependencies>qwenctl</swiftbar.dependencies>
// <swiftbar.hideAbout>true</swiftbar.hideAbout>
//
// Copy it into SwiftBar's plugin folder (xbar's works, too) and make it executable. It asks `qwenctl --json status`
// every 5 seconds, as its name says. It needs nothing that macOS does not have.

const PATH = "/opt/homebrew/bin:/usr/local/bin:$HOME/.local/bin:/usr/bin:/bin";
const SIGNS = { ready: "●", idle: "○", failed: "✕", down: "○" };

// SwiftBar ends a line's text at "|"; a line break would begin another line.
function plain(text) {
  return String(text).replace(/[|\s]+/g, " ").trim();
}

function gib(bytes) {
  return (bytes / 2 ** 30).toFixed(1) + " GiB";
}

// The line that runs a command when it is clicked.
function button(text, ...words) {
  const given = words.map((word, at) => `param${at + 1}=${word}`).join(" ");
  return `${text} | shell=/usr/bin/env ${given} terminal=false refresh=true`;
}

function buttons(program, running) {
  const commands = running ? ["restart", "down"] : ["up"];
  const names = { restart: "Restart", down: "Stop", up: "Start" };
  return commands.map((command) => button(names[command], program, command));
}

// The whole menu for one answer of `qwenctl --json status`; null: there was none.
function menu(program, answer) {
  if (answer === null) {
    return ["○ | color=gray", "---", "qwenctl is not installed, or not on PATH"].join("\n");
  }
  if (!answer.ok && answer.error.code === "not_running") {
    return ["○ | color=gray", "---", "not running", ...buttons(program, false)].join("\n");
  }
  const status = answer.data || {};
  const lines = [`${SIGNS[status.phase] || "◌"} | color=${status.phase === "failed" ? "red" : "labelColor"}`, "---"];
  lines.push(plain(status.phase));
  if (status.plan) {
    const { profile, quant, context_tokens } = status.plan;
    lines.push(plain(`${profile} ${quant}, ${context_tokens.toLocaleString("en")} tokens of context`));
  }
  if (status.download && status.download.total_bytes) {
    const { bytes, total_bytes } = status.download;
    lines.push(`download ${gib(bytes)} of ${gib(total_bytes)}`);
  }
  if (status.memory && status.memory.actual_bytes) lines.push(`memory ${gib(status.memory.actual_bytes)}`);
  lines.push(`requests ${status.in_flight || 0} running, ${status.held || 0} waiting`);
  if (status.restarts && status.restarts.total) lines.push(`restarts ${status.restarts.total}`);
  if (status.last_ending) lines.push(`last end: ${plain(status.last_ending.summary)}`);
  if (status.endpoint) lines.push("---", `${plain(status.endpoint)} | href=${plain(status.endpoint).replace(/\/v1$/, "/")}`);
  lines.push("---", ...buttons(program, true));
  return lines.join("\n");
}

// osascript calls this and prints what it returns.
function run() {
  const shell = Application.currentApplication();
  shell.includeStandardAdditions = true;
  const asked = (command) => shell.doShellScript(`PATH=${PATH}; ${command}; true`);
  const program = asked("command -v qwenctl");
  if (!program) return menu("", null);
  try {
    return menu(program, JSON.parse(asked(`'${program}' --json status 2>/dev/null`)));
  } catch (error) {
    return menu(program, null);
  }
}

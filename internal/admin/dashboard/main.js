// The dashboard of all stale_session handlers of this Caddy, live.

import { showFigures, showMix } from "./counters.js";
import { Charts } from "./charts.js";
import { connect } from "./connection.js";
import { showDatabases, showHandlers } from "./databases.js";
import { element, say } from "./document.js";
import { Events } from "./events.js";
import { askToFlush, askToRevoke, setUpLookup } from "./actions.js";
import { assess, unreachable } from "./state.js";

const charts = new Charts();
const lookup = setUpLookup();
const events = new Events(lookup);
let started;

connect({
	state(state, text) {
		element("connection").dataset.state = state;
		document.body.dataset.connection = state;
		say("connection-text", text);
		if (state === "lost" || state === "refused") showState(unreachable(state, text));
	},
	history(samples) {
		charts.replace(samples);
	},
	event(event) {
		events.add(event);
	},
	status(status) {
		if (started && started !== status.started) element("notice").textContent = "Caddy was restarted: its counters start at 0.";
		started = status.started;
		charts.add(status.latest);
		showState(assess(status, charts.lastHour(), events.all));
		const none = status.handlers.length === 0;
		element("body").hidden = none;
		element("flush").hidden = none || !status.actions;
		element("read-only").hidden = status.actions;
		say("version", `Module ${status.version}`);
		if (none) return;
		showFigures(status, charts);
		showMix(status, charts.lastHour());
		showDatabases(status, (subject, database) => askToRevoke("restore", subject, [database]));
		showHandlers(status);
		lookup.databases = status.databases.map(({ name }) => name);
		lookup.actions = status.actions;
		charts.draw();
		element("flush").onclick = () => askToFlush(status);
	},
});

function showState({ level, title, text, remedy, more }) {
	element("state").dataset.level = level;
	say("state-title", title);
	say("state-text", text);
	say("state-remedy", remedy);
	const list = element("state-more");
	const lines = more.map((finding) => `${finding.title}. ${finding.text}`);
	if (list.dataset.lines === String(lines)) return;
	list.dataset.lines = String(lines);
	list.replaceChildren(...lines.map((line) => Object.assign(document.createElement("li"), { textContent: line })));
}

// The figures and the table of verdicts.

import { duration, element, make, number, percent, rate, say, words } from "./document.js";

export const verdicts = ["live", "stale", "unknown", "anonymous", "invalid"];

/** The number of checks, by verdict, in the counters of a status or a sample. */
export function checks(counters) {
	return counters.checks_total?.by.verdict ?? {};
}

function figure(name, value, note) {
	const list = element("figures");
	let box = list.querySelector(`[data-name="${name}"]`);
	if (!box) {
		box = make("div", { data: { name } }, make("dt", { textContent: name }), make("dd"), make("dd", { className: "note" }));
		list.append(box);
	}
	say(box.children[1], value);
	say(box.children[2], note);
}

export function showFigures({ latest, counters, databases }, charts) {
	const hour = charts.lastHour();
	const sum = (numbers) => Object.values(numbers).reduce((a, b) => a + b, 0);
	const { cache = 0, ...elsewhere } = counters.checks_total.by.source;
	const failed = counters.lookup_errors_total.count;
	const lookups = charts.latestLookups();
	figure("Checks per second", rate(latest ? sum(checks(latest.counters)) / latest.seconds : 0), `${number(sum(hour.checks))} in the last hour`);
	figure("Stale, last hour", number(hour.checks.stale ?? 0), `${number(checks(counters).stale ?? 0)} since start`);
	figure("Lookup time", duration(lookups?.p95), lookups ? `95th percentile; ${number(counters.lookup_duration_seconds.count)} lookups, ${failed === 0 ? "none failed" : `${number(failed)} failed`}` : "no lookup yet");
	figure("Served from cache", percent(cache, cache + sum(elsewhere)), `${number(databases.reduce((n, d) => n + d.accounts.entries, 0))} accounts cached`);
	figure("App errors", number(counters.upstream_errors_total.count), `to live sessions; ${number(counters.rescues_total.count)} rescued`);
	figure("Streams ended", number(counters.streams_ended_total.count), "because their session was, since start");
	figure("Sign-ins", number(counters.sign_ins_total.count), "since start");
}

export function showMix({ counters }, hour) {
	const all = verdicts.reduce((n, verdict) => n + (hour.checks[verdict] ?? 0), 0);
	const body = element("mix").tBodies[0];
	const bar = element("mix-bar");
	if (body.rows.length === 0) {
		for (const verdict of verdicts) {
			body.append(make("tr", {}, make("th", { scope: "row" }, make("span", { className: "swatch", data: { verdict } }), verdict), make("td"), make("td"), make("td")));
			bar.append(make("span", { data: { verdict } }));
		}
	}
	verdicts.forEach((verdict, i) => {
		const n = hour.checks[verdict] ?? 0;
		say(body.rows[i].cells[1], number(n));
		say(body.rows[i].cells[2], n === 0 ? "" : percent(n, all));
		say(body.rows[i].cells[3], number(checks(counters)[verdict] ?? 0));
		bar.children[i].style.flexGrow = n;
		bar.children[i].hidden = n === 0;
	});
	counts("reasons", counters.checks_total.by.reason, "no stale session since start");
	counts("responses", counters.responses_total.by.kind, "nothing since start");
}

const actions = {
	redirect: "sent to the sign-in page", json: "answered with 401", error: "passed to handle_errors", scrub: "stripped from a request",
	drop: "removed from a response", clear: "cleared on the clear path", unavailable: "answered with 503",
};

function counts(id, numbers, none) {
	const entries = Object.entries(numbers).filter(([, n]) => n > 0).sort(([, a], [, b]) => b - a);
	const shown = JSON.stringify(entries);
	const list = element(id);
	if (list.dataset.shown === shown) return;
	list.dataset.shown = shown;
	const rows = entries.map(([name, n]) => make("div", {}, make("dt", { textContent: actions[name] ?? words(name) }), make("dd", { textContent: number(n) })));
	list.replaceChildren(...(rows.length > 0 ? rows : [make("div", { className: "none" }, make("dt", { textContent: none }), make("dd", { textContent: "0" }))]));
}

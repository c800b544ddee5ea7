// The state of each database, and of the handlers.

import { element, make, number, percent, rate, say, moment } from "./document.js";

const healths = { ok: ["good", "ok"], failing: ["bad", "lookups fail"], unwatched: ["warn", "changes are noticed late"] };

function facts(d, latest) {
	const { accounts } = d;
	const subjects = latest?.counters.lookup_subjects;
	return {
		"Changes noticed": d.notified ? `at once; ${number(d.notifications)} notifications` : d.watched ? "within the poll interval; no triggers" : "when cached accounts expire",
		"Advice": d.advice,
		"Circuit breaker": d.broken ? "open: requests do not wait for the database" : "closed",
		"Brake": d.braking ? "on: no session is ended" : "off",
		"Connections": `${d.busy} of ${d.connections} busy`,
		"Streams": `${number(d.streams)} requests under way end with their session`,
		"Cached accounts": `${number(accounts.entries)}, ${number(accounts.evictions)} evicted`,
		"Cache hit rate": percent(accounts.hits, accounts.hits + accounts.misses),
		"Rechecked after changes": number(d.rechecked),
		"Accounts per lookup": subjects ? rate(subjects.sum / subjects.count) : undefined,
		"Resets of the users table": number(d.resets),
	};
}

export function showDatabases({ databases, latest, actions }, restore) {
	const list = element("databases");
	for (const card of [...list.children]) {
		if (!databases.some(({ name }) => name === card.dataset.name)) card.remove();
	}
	for (const database of databases) {
		let card = [...list.children].find(({ dataset }) => dataset.name === database.name);
		if (!card) {
			card = make("article", { data: { name: database.name } },
				make("h3", {}, make("span", { textContent: database.name }), " ", make("span", { className: "pill" })),
				make("p", { className: "note" }), make("p", { className: "failure" }), make("dl", { className: "facts" }), make("div", { className: "revoked" }));
			list.append(card);
		}
		const [level, text] = healths[database.health];
		const pill = card.querySelector(".pill");
		pill.dataset.level = level;
		say(pill, text);
		say(card.querySelector(".note"), database.users ? `Users table: ${database.users}` : "Users table: not known before the first lookup.");
		say(card.querySelector(".failure"), database.error ?? "");
		fill(card.querySelector("dl"), facts(database, databases.length === 1 ? latest : undefined));
		showRevoked(card.querySelector(".revoked"), database, actions && ((subject) => restore(subject, database.name)));
	}
}

function fill(list, entries) {
	for (const [name, value] of Object.entries(entries)) {
		let row = list.querySelector(`[data-name="${name}"]`);
		if (value === undefined) {
			row?.remove();
			continue;
		}
		if (!row) {
			row = make("div", { data: { name } }, make("dt", { textContent: name }), make("dd"));
			list.append(row);
		}
		say(row.lastChild, value);
	}
}

function showRevoked(target, { revoked }, restore) {
	const shown = JSON.stringify([revoked, Boolean(restore)]);
	if (target.dataset.shown === shown) return;
	target.dataset.shown = shown;
	const rows = revoked.map(({ subject, at, blocked }) => {
		const row = make("li", {}, make("code", { textContent: subject }), make("span", { textContent: blocked ? "refused until restored" : `sessions from before ${moment(at)}` }));
		if (restore) {
			const button = make("button", { type: "button", textContent: "Restore…", ariaLabel: `Restore the sessions of ${subject}` });
			button.addEventListener("click", () => restore(subject));
			row.append(button);
		}
		return row;
	});
	target.replaceChildren(...(rows.length > 0 ? [make("h4", { textContent: "Revoked sessions" }), make("ul", {}, ...rows)] : []));
}

export function showHandlers({ handlers }) {
	const groups = new Map();
	for (const { mode, database } of handlers) {
		const key = JSON.stringify([mode, database]);
		groups.set(key, (groups.get(key) ?? 0) + 1);
	}
	const list = element("handlers");
	const shown = JSON.stringify([...groups]);
	if (list.dataset.shown === shown) return;
	list.dataset.shown = shown;
	list.replaceChildren(...[...groups].map(([key, n]) => {
		const [mode, database] = JSON.parse(key);
		return make("li", {},
			make("span", { className: "pill", data: { level: mode === "enforce" ? "good" : "note" }, textContent: mode }),
			` ${n === 1 ? "1 handler" : `${n} handlers`}, users in ${database}`);
	}));
}

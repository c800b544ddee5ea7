// The table of the latest events.

import { element, make, number, say, time, words } from "./document.js";

const maxEvents = 200;

export class Events {
	all = [];
	#rows = new Map();
	#reasons = new Set();
	#scheduled = false;
	#lookup;

	constructor(lookup) {
		this.#lookup = lookup;
		const filter = element("filter");
		filter.addEventListener("submit", (event) => event.preventDefault());
		filter.addEventListener("input", () => this.#show());
	}

	add(event) {
		this.all.push(event);
		if (this.all.length > maxEvents) this.all.shift();
		if (this.#scheduled) return;
		this.#scheduled = true; // hundreds can come at once
		setTimeout(() => {
			this.#scheduled = false;
			this.#show();
		}, 100);
	}

	// Existing rows stay, so the user keeps the place and the focus.
	#show() {
		const body = element("events-table").tBodies[0];
		for (const event of this.all) {
			if (this.#rows.has(event)) continue;
			const row = event.name === "detected" ? this.#detectionRow(event) : otherRow(event);
			this.#rows.set(event, row);
			body.prepend(row);
			this.#addKind(event);
		}
		for (const [event, row] of this.#rows) {
			if (event.id >= this.all[0].id) break;
			row.remove();
			this.#rows.delete(event);
		}
		const { text, kind } = Object.fromEntries(new FormData(element("filter")));
		const search = text.trim().toLowerCase();
		let shown = 0;
		for (const [event, row] of this.#rows) {
			row.hidden = !(matches(event, kind) && row.textContent.toLowerCase().includes(search));
			if (!row.hidden) shown++;
		}
		element("events-table").hidden = shown === 0;
		element("events-empty").hidden = shown > 0;
		say("events-empty", this.all.length === 0 ? "No events since Caddy started." : "No event matches the filter.");
		say("events-count", this.all.length === 0 ? "" : `${number(shown)} of ${number(this.all.length)}`);
	}

	// Adds a kind of event to the filter.
	#addKind({ name, details }) {
		const kind = name === "detected" ? details.reason : "other";
		if (this.#reasons.has(kind)) return;
		this.#reasons.add(kind);
		const label = kind === "other" ? "everything else" : words(kind);
		element("filter").elements.kind.append(make("option", { value: kind, textContent: label }));
	}

	#detectionRow({ time: at, details }) {
		const subject = make("button", { type: "button", className: "link", textContent: details.subject || "(none)", title: "Look up" });
		subject.addEventListener("click", () => this.#lookup.look(details.subject));
		return make("tr", { role: "row" },
			cell("Time", time(at)),
			cell("User", subject),
			cell("Reason", make("span", { className: "pill", data: { level: details.mode === "observe" ? "note" : "bad" }, textContent: words(details.reason) })),
			cell("Request", make("code", { textContent: `${details.method} ${details.uri}` }), make("small", { textContent: details.host })),
			cell("Client", details.client_ip || "–"),
			cell("Where", details.mode === "observe" ? `${details.where}, observed only` : details.where));
	}
}

function matches({ name, details }, kind) {
	switch (kind) {
		case "": return true;
		case "detected": return name === "detected";
		case "other": return name !== "detected";
		default: return details?.reason === kind && name === "detected";
	}
}

const levels = { database_unreachable: "bad", brake_on: "bad", database_recovered: "good", brake_off: "good" };

function otherRow({ name, time: at, details = {} }) {
	const { subject, ...others } = details;
	const text = Object.entries(others).map(([key, value]) => `${words(key)}: ${value}`).join(" · ");
	const pill = make("span", { className: "pill", data: { level: levels[name] ?? "note" }, textContent: words(name) });
	return make("tr", { className: "happened", role: "row" },
		cell("Time", time(at)),
		Object.assign(cell("Event", pill, ` ${[subject, text].filter(Boolean).join(" · ")}`), { colSpan: 5 }));
}

function cell(label, ...children) {
	return make("td", { role: "cell", data: { label } }, make("div", {}, ...children));
}

// What somebody on call does: look a user up, revoke, restore, flush.

import { element, make, moment, number, words } from "./document.js";
import { post } from "./connection.js";

/** Asks whether to do something, does it, and tells so. */
function confirm({ title, text, yes, grave = false, databases = [], act, done }) {
	const dialog = element("confirm");
	element("confirm-title").textContent = title;
	element("confirm-text").textContent = text;
	element("confirm-error").textContent = "";
	element("confirm-place").hidden = databases.length < 2;
	element("confirm-database").replaceChildren(...databases.map((name) => make("option", { textContent: name })));
	const button = element("confirm-yes");
	button.textContent = yes;
	button.disabled = false;
	button.dataset.grave = grave;
	element("confirm-no").onclick = () => dialog.close();
	dialog.querySelector("form").onsubmit = async (event) => {
		event.preventDefault();
		button.disabled = true;
		try {
			const answer = await act(element("confirm-database").value || databases[0]);
			dialog.close();
			tell(done(answer));
		} catch (error) {
			element("confirm-error").textContent = error.message;
			button.disabled = false;
			button.focus();
		}
	};
	dialog.showModal();
}

let hiding;

function tell(text) {
	const notice = element("notice");
	notice.textContent = text;
	clearTimeout(hiding);
	hiding = setTimeout(() => { notice.textContent = ""; }, 8000);
}

export function askToFlush({ databases }) {
	const entries = databases.reduce((n, { accounts }) => n + accounts.entries, 0);
	confirm({
		title: "Forget all cached accounts?",
		text: `${number(entries)} accounts are looked up again as their users come back. Nobody is signed out by it.`,
		yes: "Flush the cache",
		act: () => post("flush"),
		done: ({ accounts }) => `${number(accounts)} accounts were forgotten.`,
	});
}

const texts = {
	revoke: {
		title: (subject) => `End the sessions of ${subject}?`,
		text: "All that this user has until now end at their next request. Who signs in again later is not concerned: to keep somebody out, disable the user in the database.",
		yes: "End the sessions",
		done: (subject) => `The sessions of ${subject} from before now are ended.`,
	},
	restore: {
		title: (subject) => `Restore the sessions of ${subject}?`,
		text: "The sessions that were ended by hand count again, unless something else speaks against them.",
		yes: "Restore",
		done: (subject) => `The sessions of ${subject} are no longer revoked.`,
	},
};

/** Asks whether to revoke or restore the sessions of a user. */
export function askToRevoke(name, subject, databases, after = () => {}) {
	const { title, text, yes, done } = texts[name];
	confirm({
		title: title(subject), text, yes, grave: name === "revoke", databases,
		act: async (database) => {
			const answer = await post(name, { subject, database });
			after();
			return answer;
		},
		done: () => done(subject),
	});
}

/** What looks users up, for others to use too. */
export function prepareLookup() {
	const field = element("subject");
	const lookup = {
		databases: [],
		actions: false,
		async look(subject) {
			field.value = subject;
			const answer = element("answer");
			answer.ariaBusy = "true";
			answer.replaceChildren(make("p", { textContent: "Looking up…" }));
			answer.scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
			try {
				const { handlers } = await post("check", { subject });
				answer.replaceChildren(...distinct(handlers).map(reasoning), ...buttons(lookup, subject, handlers));
			} catch (error) {
				answer.replaceChildren(make("p", { className: "failure", textContent: error.message }));
			}
			answer.ariaBusy = "false";
		},
	};
	element("lookup").addEventListener("submit", (event) => {
		event.preventDefault();
		lookup.look(field.value);
	});
	return lookup;
}

// Handlers of one database judge alike, as a rule.
function distinct(handlers) {
	return [...new Map(handlers.map((h) => [JSON.stringify(h), h])).values()];
}

const levels = { live: "good", stale: "bad" };
const sources = { cache: "what is cached", database: "the database, asked just now", revocation: "what was revoked by hand" };

function reasoning(h) {
	const lines = [];
	if (h.error) lines.push(`The database could not be asked: ${h.error}`);
	if (h.account) lines.push(h.account.exists ? "There is a row of this user." : "There is no row of this user.");
	if (h.account?.disabled) lines.push("The user is disabled.");
	if (h.account?.created_at) lines.push(`Created ${moment(h.account.created_at)}: tokens from before are stale.`);
	if (h.account?.valid_after) lines.push(`Sessions count from ${moment(h.account.valid_after)} on.`);
	if (h.revoked) lines.push(`Ended by hand: sessions from before ${moment(h.revoked)}.`);
	if (h.source) lines.push(`Judged by ${sources[h.source] ?? words(h.source)}.`);
	if (h.mode === "observe") lines.push("The handler only observes: nothing is ended.");
	return make("article", {},
		make("h3", {}, make("span", { className: "pill", data: { level: levels[h.verdict] ?? "warn" }, textContent: [h.verdict, words(h.reason ?? "")].filter(Boolean).join(": ") })),
		make("p", { className: "note", textContent: h.database }),
		make("ul", {}, ...lines.map((textContent) => make("li", { textContent }))));
}

function buttons(lookup, subject, handlers) {
	if (!lookup.actions) return [];
	const button = (name, label) => {
		const made = make("button", { type: "button", textContent: label });
		made.addEventListener("click", () => askToRevoke(name, subject, lookup.databases, () => lookup.look(subject)));
		return made;
	};
	const shown = [button("revoke", "End the sessions…")];
	if (handlers.some(({ revoked }) => revoked)) shown.push(button("restore", "Restore…"));
	return [make("div", { className: "buttons" }, ...shown)];
}

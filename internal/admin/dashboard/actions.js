// The actions: look up a user, revoke, restore, flush.

import { element, make, moment, number, words } from "./document.js";
import { post } from "./connection.js";

/** Asks for confirmation, acts, and shows a notice. */
function confirm({ title, text, yes, dangerous = false, databases = [], act, done }) {
	const dialog = element("confirm");
	element("confirm-title").textContent = title;
	element("confirm-text").textContent = text;
	element("confirm-error").textContent = "";
	element("confirm-choice").hidden = databases.length < 2;
	element("confirm-database").replaceChildren(...databases.map((name) => make("option", { textContent: name })));
	const button = element("confirm-yes");
	button.textContent = yes;
	button.disabled = false;
	button.dataset.dangerous = dangerous;
	element("confirm-no").onclick = () => dialog.close();
	dialog.querySelector("form").onsubmit = async (event) => {
		event.preventDefault();
		button.disabled = true;
		try {
			const answer = await act(element("confirm-database").value || databases[0]);
			dialog.close();
			notify(done(answer));
		} catch (error) {
			element("confirm-error").textContent = error.message;
			button.disabled = false;
			button.focus();
		}
	};
	dialog.showModal();
}

let hideTimer;

function notify(text) {
	const notice = element("notice");
	notice.textContent = text;
	clearTimeout(hideTimer);
	hideTimer = setTimeout(() => { notice.textContent = ""; }, 8000);
}

export function askToFlush({ databases }) {
	const entries = databases.reduce((n, { accounts }) => n + accounts.entries, 0);
	confirm({
		title: "Flush the cache of accounts?",
		text: `${number(entries)} accounts are looked up again when their users come back. This signs nobody out.`,
		yes: "Flush the cache",
		act: () => post("flush"),
		done: ({ accounts }) => `${number(accounts)} accounts removed from the cache.`,
	});
}

const texts = {
	revoke: {
		title: (subject) => `End the sessions of ${subject}?`,
		text: "All current sessions of this user end at their next request. The user can sign in again: to prevent that, disable the user in the database.",
		yes: "End the sessions",
		done: (subject) => `The current sessions of ${subject} are revoked.`,
	},
	restore: {
		title: (subject) => `Restore the sessions of ${subject}?`,
		text: "The revoked sessions become valid again, unless they are stale for another reason.",
		yes: "Restore",
		done: (subject) => `The sessions of ${subject} are no longer revoked.`,
	},
};

/** Asks for confirmation to revoke or restore the sessions of a user. */
export function askToRevoke(name, subject, databases, after = () => {}) {
	const { title, text, yes, done } = texts[name];
	confirm({
		title: title(subject), text, yes, dangerous: name === "revoke", databases,
		act: async (database) => {
			const answer = await post(name, { subject, database });
			after();
			return answer;
		},
		done: () => done(subject),
	});
}

/** Sets up the form that looks up a user, and returns what looks one up from elsewhere on the page. */
export function setUpLookup() {
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

// Handlers with the same database usually agree.
function distinct(handlers) {
	return [...new Map(handlers.map((h) => [JSON.stringify(h), h])).values()];
}

const levels = { live: "good", stale: "bad" };
const sources = { cache: "the cache", database: "the database", revocation: "the list of revoked sessions" };

function reasoning(h) {
	const lines = [];
	if (h.error) lines.push(`The lookup failed: ${h.error}`);
	if (h.account) lines.push(h.account.exists ? "The user has a row." : "The user has no row.");
	if (h.account?.disabled) lines.push("The user is disabled.");
	if (h.account?.created_at) lines.push(`Created ${moment(h.account.created_at)}: older tokens are stale.`);
	if (h.account?.valid_after) lines.push(`Sessions from before ${moment(h.account.valid_after)} are stale.`);
	if (h.revoked) lines.push(`Sessions from before ${moment(h.revoked)} are revoked.`);
	if (h.source) lines.push(`Source: ${sources[h.source] ?? words(h.source)}.`);
	if (h.mode === "observe") lines.push("The handler only observes: it ends no session.");
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
	const row = [button("revoke", "End the sessions…")];
	if (handlers.some(({ revoked }) => revoked)) row.push(button("restore", "Restore…"));
	return [make("div", { className: "buttons" }, ...row)];
}

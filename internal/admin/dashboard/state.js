// What is wrong, and what to do.

import { checks } from "./counters.js";
import { number } from "./document.js";

/** The gravest finding, and the others in `more`. */
export function assess(status, hour, events) {
	const findings = [...nothing(status), ...status.databases.flatMap(databases), ...modes(status), ...unchecked(status), ...resets(hour, events), ...many(status)];
	const [gravest = fine(status, hour), ...more] = findings;
	return { ...gravest, more };
}

/** The finding that Caddy itself cannot be asked. */
export function unreachable(state, text) {
	return {
		level: "bad",
		title: state === "lost" ? "Caddy does not answer" : "Caddy refuses to answer",
		text: `${text} What is shown below is from before.`,
		remedy: state === "lost" ? "Is it running? This page comes back by itself." : "",
		more: [],
	};
}

function nothing({ handlers }) {
	if (handlers.length > 0) return [];
	return [{
		level: "off",
		title: "No handler is in use",
		text: "Nothing is checked: the configuration of this Caddy has no stale_session directive, or the mode is off.",
		remedy: "Add stale_session to a site, or set STALE_SESSION_MODE to enforce or observe, and reload.",
	}];
}

function databases(database) {
	const findings = [];
	if (database.health === "away") {
		findings.push({
			level: "bad",
			title: "The database cannot be asked",
			text: `${database.name}: ${database.error}`,
			remedy: "Nobody is signed out meanwhile: what was last known counts for ten minutes, then sessions pass unchecked (with on_error deny they get a 503).",
		});
	}
	if (database.braking) {
		findings.push({
			level: "bad",
			title: "The brake is on: no session is ended",
			text: `${database.name}: too many users are gone at once, which is more often a mistake than meant.`,
			remedy: "Look up a user who must exist. The brake is taken off when the users are back, or the table is created anew or emptied. What is likely is among the latest detections.",
		});
	}
	if (database.health === "unwatched") {
		findings.push({
			level: "warn",
			title: "Changes are noticed late",
			text: `${database.name}: the connection that watches the database is broken. Until it is back accounts count for five seconds.`,
			remedy: "It is tried again and again. If it lasts, look for a limit of connections, or a proxy that closes idle ones.",
		});
	}
	return findings;
}

function modes({ handlers }) {
	const observing = handlers.filter(({ mode }) => mode === "observe").length;
	if (observing === 0) return [];
	return [{
		level: "note",
		title: observing === handlers.length ? "Observing only: no session is ended" : `${observing} of ${handlers.length} handlers only observe`,
		text: "Stale sessions are logged and counted, and pass.",
		remedy: "When what is detected below is right, set the mode to enforce and reload.",
	}];
}

function unchecked({ latest, databases }) {
	const unknown = latest ? (checks(latest.counters).unknown ?? 0) / latest.seconds : 0;
	if (unknown === 0 || databases.some(({ health }) => health === "away")) return [];
	return [{
		level: "warn",
		title: "Some sessions could not be checked",
		text: `${number(Math.max(1, unknown * 60))} a minute pass unchecked, though the database answers.`,
		remedy: "Lookups time out, or tokens lack the claim that names the user. Caddy's log says which.",
	}];
}

const lately = 15 * 60 * 1000;

function resets(hour, events) {
	const reset = events.findLast(({ name, time }) => name === "database_reset" && Date.now() - Date.parse(time) < lately);
	if (!reset) return [];
	const minutes = Math.floor((Date.now() - Date.parse(reset.time)) / 60_000);
	return [{
		level: "note",
		title: "The users table was reset",
		text: `${minutes === 0 ? "Less than a minute" : minutes === 1 ? "A minute" : `${minutes} minutes`} ago it was created anew, emptied or restored. ${number(hour.checks.stale ?? 0)} checks found a stale session in the last hour.`,
		remedy: "If that was meant, there is nothing to do: people sign in again.",
	}];
}

const share = 0.2;

function many({ latest }) {
	const { stale = 0, live = 0 } = latest ? checks(latest.counters) : {};
	if (stale < 10 || stale < share * (stale + live)) return [];
	return [{
		level: "note",
		title: "Many sessions are stale",
		text: `${number((100 * stale) / (stale + live))} of 100 checks of a session find a stale one.`,
		remedy: "After a seed or a clean-up of users that is as it should be. If nobody did such a thing, look at the reasons below.",
	}];
}

function fine({ handlers, databases }, hour) {
	if (databases.some(({ users }) => !users)) {
		return {
			level: "note",
			title: "Nothing was checked yet",
			text: "Users are looked up at the first request with a session.",
			remedy: "If there should have been one, look at the matcher, the cookie names and the secret: caddy stale-session doctor.",
		};
	}
	const fast = databases.every(({ notified }) => notified);
	const asleep = databases.some(({ watched }) => !watched);
	const noticed = fast ? "at once, because the database tells of them" : asleep ? "as cached accounts age, because it is not polled" : "within the poll interval";
	const stale = hour.checks.stale ?? 0;
	return {
		level: "good",
		title: "All is well",
		text: `${databases.length === 1 ? "The database answers" : `${databases.length} databases answer`}; changes are noticed ${noticed}. ${handlers.length === 1 ? "One handler ends" : `${handlers.length} handlers end`} stale sessions.`,
		remedy: stale === 0 ? "No stale session in the last hour." : `${stale < 1.5 ? "One check" : `${number(stale)} checks`} found a stale session in the last hour.`,
	};
}

// The headline: what is wrong, and what to do.

import { checks } from "./counters.js";
import { number } from "./document.js";

/** The worst finding, and the others in `more`. */
export function assess(status, hour, events) {
	const findings = [...nothing(status), ...status.databases.flatMap(databases), ...modes(status), ...unchecked(status), ...unread(status), ...resets(hour, events), ...many(status)];
	const [worst = fine(status, hour), ...more] = findings;
	return { ...worst, more };
}

/** The finding that there is no connection to Caddy. */
export function unreachable(state, text) {
	return {
		level: "bad",
		title: state === "lost" ? "Caddy does not respond" : "Caddy denies access",
		text: `${text} The data below is out of date.`,
		remedy: state === "lost" ? "Check that it is running. This page reconnects by itself." : "",
		more: [],
	};
}

function nothing({ handlers }) {
	if (handlers.length > 0) return [];
	return [{
		level: "off",
		title: "No active handler",
		text: "No session is checked: the configuration of this Caddy has no stale_session directive, or its mode is off.",
		remedy: "Add stale_session to a site, or set STALE_SESSION_MODE to enforce or observe, and reload.",
	}];
}

function databases(database) {
	const findings = [];
	if (database.health === "failing") {
		findings.push({
			level: "bad",
			title: "User lookups are failing",
			text: `${database.name}: ${database.error}`,
			remedy: "Nobody is signed out: cached accounts are used for ten minutes, then sessions pass unchecked, or get a 503 with on_error deny.",
		});
	}
	if (database.braking) {
		findings.push({
			level: "bad",
			title: "The brake is on: no session is ended",
			text: `${database.name}: too many users disappeared at once, which is usually a mistake.`,
			remedy: "Look up a user who must exist. The event brake on below names a likely cause. The brake goes off when the users are back, or when the table is recreated or emptied.",
		});
	}
	if (database.health === "unwatched") {
		findings.push({
			level: "warn",
			title: "Changes are noticed late",
			text: `${database.name}: the connection that watches for changes is down. Until it is back, accounts are cached for five seconds only.`,
			remedy: "Caddy keeps trying to reconnect. If this lasts, look for a connection limit, or a proxy that closes idle connections.",
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
		text: "Stale sessions are logged and counted, but reach the app.",
		remedy: "If the detections below are right, set the mode to enforce and reload.",
	}];
}

function unchecked({ latest, databases }) {
	const unknown = latest ? (checks(latest.counters).unknown ?? 0) / latest.seconds : 0;
	if (unknown === 0 || databases.some(({ health }) => health === "failing")) return [];
	return [{
		level: "warn",
		title: "Some sessions could not be checked",
		text: `${number(Math.max(1, unknown * 60))} per minute pass unchecked, although the database responds.`,
		remedy: "Either lookups time out, or tokens lack the claim that names the user. Caddy's log says which.",
	}];
}

function unread({ unread: found = [] }) {
	if (found.length === 0) return [];
	const [{ name, advice }] = found;
	if (found.length === 1) return [{ level: "note", title: `A session that nothing reads: ${name}`, text: "It looks like one, and passes unchecked.", remedy: `What to do: ${advice}.` }];
	return [{
		level: "note",
		title: `${number(found.length)} cookies that look like sessions and that nothing reads`,
		text: `They pass unchecked: ${found.map((f) => f.name).join(", ")}.`,
		remedy: "`caddy stale-session status` says what to do about each.",
	}];
}

const recent = 15 * 60 * 1000; // milliseconds

function resets(hour, events) {
	const reset = events.findLast(({ name, time }) => name === "database_reset" && Date.now() - Date.parse(time) < recent);
	if (!reset) return [];
	const minutes = Math.floor((Date.now() - Date.parse(reset.time)) / 60_000);
	return [{
		level: "note",
		title: "The users table was reset",
		text: `${minutes === 0 ? "Less than a minute" : minutes === 1 ? "A minute" : `${minutes} minutes`} ago it was recreated, emptied or restored. ${number(hour.checks.stale ?? 0)} checks found a stale session in the last hour.`,
		remedy: "If that was intended, there is nothing to do: users sign in again.",
	}];
}

const share = 0.2; // of the sessions

function many({ latest }) {
	const { stale = 0, live = 0 } = latest ? checks(latest.counters) : {};
	if (stale < 10 || stale < share * (stale + live)) return [];
	return [{
		level: "note",
		title: "Many sessions are stale",
		text: `${number((100 * stale) / (stale + live))} % of the checked sessions are stale.`,
		remedy: "That is expected after a reseed or after users were deleted. Otherwise, look at the reasons below.",
	}];
}

function fine({ handlers, databases }, hour) {
	if (databases.some(({ users }) => !users)) {
		return {
			level: "note",
			title: "No session checked yet",
			text: "The first request with a session looks up its user.",
			remedy: "If there was one, check the matcher, the cookie names and the secret with caddy stale-session doctor.",
		};
	}
	const notified = databases.every((database) => database.notified);
	const watched = databases.every((database) => database.watched);
	const noticed = notified ? "at once, by triggers" : watched ? "within the poll interval" : "when cached accounts expire, because polling is off";
	const stale = hour.checks.stale ?? 0;
	return {
		level: "good",
		title: "All is well",
		text: `${databases.length === 1 ? "The database responds" : `${databases.length} databases respond`}; changes are noticed ${noticed}. ${handlers.length === 1 ? "One handler ends" : `${handlers.length} handlers end`} stale sessions.`,
		remedy: stale === 0 ? "No stale session in the last hour." : `${stale < 1.5 ? "One check" : `${number(stale)} checks`} found a stale session in the last hour.`,
	};
}

// The stream of events and statuses. It reconnects by itself.

const period = 2; // seconds from one status to the next
const timeout = 4 * period * 1000; // milliseconds without a status
const delays = [500, 1000, 2000, 4000]; // milliseconds before each attempt to reconnect
const names = [
	"detected", "stream_ended", "database_unreachable", "database_recovered", "database_reset", "brake_on", "brake_off", "flushed", "revoked", "restored",
];
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** Calls the page with each state of the connection, each event and each status, and with the history when it has connected. */
export function connect(page) {
	let source, watchdog, lost, last = 0, failures = 0;

	function open() {
		source = new EventSource(`events?status=${period}s`);
		watch();
		for (const name of names) {
			source.addEventListener(name, ({ data }) => {
				const event = JSON.parse(data);
				if (event.id <= last) return; // repeated after a reconnect
				last = event.id;
				page.event(event);
			});
		}
		let first = true;
		source.addEventListener("status", async ({ data }) => {
			watch();
			if (first) {
				first = false;
				lost = undefined;
				failures = 0;
				page.state("live", "Live");
				page.history(await history());
			}
			page.status(JSON.parse(data));
		});
		source.addEventListener("error", fail);
	}

	// A connection can break without an error.
	function watch() {
		clearTimeout(watchdog);
		watchdog = setTimeout(fail, timeout);
	}

	async function fail() {
		clearTimeout(watchdog);
		source.close();
		lost ??= clock.format(new Date());
		setTimeout(open, delays[Math.min(failures, delays.length - 1)]);
		// Each reload ends the stream; then the next attempt succeeds.
		if (failures++ === 0) page.state("connecting", "Connecting…");
		else page.state("lost", `Connection lost at ${lost}. Reconnecting…`);
		const reason = await refused();
		if (reason && lost) page.state("refused", reason);
	}

	open();
}

/** Why Caddy refuses requests, or an empty text. */
async function refused() {
	try {
		const { status } = await fetch("status", { method: "HEAD", redirect: "manual" });
		if (status === 0 || status === 401 || status === 403) return "Access denied: reload the page to sign in again.";
		if (status === 404) return "The dashboard is no longer at this address.";
	} catch {
		// Caddy does not respond at all.
	}
	return "";
}

async function history() {
	try {
		const response = await fetch("history");
		return (await response.json()).samples ?? [];
	} catch {
		return []; // the stream fails too, or fills it
	}
}

/** Calls an operation and returns its response. On a failure it throws Caddy's error message. */
export async function post(name, body = {}) {
	let response;
	try {
		response = await fetch(name, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
	} catch {
		throw new Error("Caddy does not respond. Check later whether the action took effect.");
	}
	const text = await response.json().catch(() => ({}));
	if (!response.ok) throw new Error(text.error ?? `Caddy responded with status ${response.status}.`);
	return text;
}

// The stream of what happens. A connection that is lost is made again.

const every = 2; // seconds from one status to the next
const patience = 4 * every * 1000;
const pauses = [500, 1000, 2000, 4000];
const names = [
	"detected", "database_unreachable", "database_recovered", "database_reset", "brake_on", "brake_off", "flushed", "revoked", "restored",
];
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** Calls the page with each state of the connection, event, status, and the history after each connection. */
export function connect(page) {
	let source, watchdog, lost, last = 0, failures = 0;

	function open() {
		source = new EventSource(`events?status=${every}s`);
		watch();
		for (const name of names) {
			source.addEventListener(name, ({ data }) => {
				const event = JSON.parse(data);
				if (event.id <= last) return; // it comes again after a connection was lost
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

	// A connection can break without a word.
	function watch() {
		clearTimeout(watchdog);
		watchdog = setTimeout(fail, patience);
	}

	async function fail() {
		clearTimeout(watchdog);
		source.close();
		lost ??= clock.format(new Date());
		setTimeout(open, pauses[Math.min(failures, pauses.length - 1)]);
		// Each reload ends the stream, and the next attempt succeeds.
		if (failures++ === 0) page.state("connecting", "Connecting…");
		else page.state("lost", `Connection lost at ${lost}. Trying again…`);
		const refusal = await refused();
		if (refusal && lost) page.state("refused", refusal);
	}

	open();
}

/** Why Caddy refuses to answer, if it does. */
async function refused() {
	try {
		const { status } = await fetch("status", { method: "HEAD", redirect: "manual" });
		if (status === 0 || status === 401 || status === 403) return "Access is refused: reload the page to sign in again.";
		if (status === 404) return "The dashboard is no longer at this address.";
	} catch {
		// it does not answer at all
	}
	return "";
}

async function history() {
	try {
		const response = await fetch("history");
		return (await response.json()).samples ?? [];
	} catch {
		return []; // the stream will fail too, or fill it
	}
}

/** Has Caddy do something, and returns what it says; an error has its words. */
export async function post(name, body = {}) {
	let response;
	try {
		response = await fetch(name, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
	} catch {
		throw new Error("Caddy does not answer. Nothing may have been done.");
	}
	const text = await response.json().catch(() => ({}));
	if (!response.ok) throw new Error(text.error ?? `Caddy answers with status ${response.status}.`);
	return text;
}

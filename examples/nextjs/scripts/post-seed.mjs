// Notifies Caddy that the database was seeded, and prints what happens to the
// sessions that browsers still have. It needs only Node 18 or newer, and never
// makes the seed fail.
//
//	CADDY_ADMIN   the address of Caddy's admin endpoint, localhost:2019
//	APP_URL       the address that browsers use; by default that of AUTH_URL or
//	              NEXTAUTH_URL, else http://localhost:8080
//
// Node 20.12 and newer read them from .env.local and .env, too.

import { setDefaultResultOrder } from "node:dns";
import { once } from "node:events";
import { request } from "node:http";
import { json } from "node:stream/consumers";

// Caddy's admin endpoint listens on 127.0.0.1, which Node 18 does not try if
// localhost is also ::1.
setDefaultResultOrder("ipv4first");

for (const file of [".env.local", ".env"]) {
	try {
		process.loadEnvFile?.(file);
	} catch {} // there is no such file
}
const address = process.env.CADDY_ADMIN || "localhost:2019";
const admin = address.includes("://") ? address : `http://${address}`;
const auth = parse(process.env.AUTH_URL) ?? parse(process.env.NEXTAUTH_URL) ?? new URL("http://localhost:8080");
const app = parse(process.env.APP_URL) ?? auth;

function parse(address) {
	try {
		return new URL(address.includes("://") ? address : `https://${address}`);
	} catch {} // it is not set, or no address
}

// signIn returns the addresses of the sign-in pages: Caddy's, else the one of Auth.js.
function signIn(pages = []) {
	const base = auth.pathname === "/" ? "/api/auth" : auth.pathname.replace(/\/+$/, "");
	return (pages.length ? pages : [`${base}/signin`]).map((page) => new URL(page, app).href).join(" or ");
}

// Not fetch, which sends Sec-Fetch-Mode, for which Caddy requires an Origin.
async function flush() {
	const call = request(new URL("/stale_session/flush", admin), {
		method: "POST",
		signal: AbortSignal.timeout(5000),
	});
	try {
		const [response] = await once(call.end(), "response");
		if (response.statusCode !== 200) throw new Error(`it answered ${response.statusCode}`);
		return await json(response);
	} finally {
		call.destroy();
	}
}

function dropped(accounts) {
	if (accounts === 0) return "Caddy had no accounts cached, or had noticed the seed already";
	return `Caddy dropped ${accounts} cached ${accounts === 1 ? "account" : "accounts"}`;
}

try {
	const { accounts, sign_in: pages } = await flush();
	console.log(`
${dropped(accounts)}, and looks every user up again.

Next steps:
  - Use the app. A browser whose user no longer exists is sent to sign in on its
    next request.
  - Sign in again: ${signIn(pages)}
`);
} catch (error) {
	console.log(`
Caddy could not be notified of the seed at ${admin}: ${error.message || error.code}

Next steps:
  - If Caddy runs in front of the app, do nothing: it notices the seed by
    itself within a second or so. To notify it, set CADDY_ADMIN to the address
    of its admin endpoint.
  - If Caddy does not run, start it, as with caddy run --envfile .env.local
  - Without Caddy, browsers keep the sessions of deleted users: sign out, or
    delete the site's cookies, and sign in again: ${signIn()}
`);
}

// Calls the route that clears the caller's session, and prints its answer. It needs
// only Node 18 or newer.
//
//	APP_URL    the address that browsers use; by default that of AUTH_URL or
//	           NEXTAUTH_URL, else http://localhost:8080
//
// Node 20.12 and newer read them from .env.local and .env, too.

import { once } from "node:events";
import http from "node:http";
import https from "node:https";
import { text } from "node:stream/consumers";

for (const file of [".env.local", ".env"]) {
	try {
		process.loadEnvFile?.(file);
	} catch {} // there is no such file
}
const auth = parse(process.env.AUTH_URL) ?? parse(process.env.NEXTAUTH_URL) ?? new URL("http://localhost:8080");
const base = auth.pathname === "/" ? "/api/auth" : auth.pathname.replace(/\/+$/, "");
const url = new URL(`${base}/clear-session`, parse(process.env.APP_URL) ?? auth);

function parse(address) {
	try {
		return new URL(address.includes("://") ? address : `https://${address}`);
	} catch {} // it is not set, or no address
}

// Caddy's own authority signs the certificate of localhost; Node does not know it.
const local = /^(localhost|127\.0\.0\.1|\[::1\])$/.test(url.hostname);
const { request } = url.protocol === "https:" ? https : http;

try {
	const call = request(url, { method: "POST", rejectUnauthorized: !local, signal: AbortSignal.timeout(10_000) });
	const [response] = await once(call.end(), "response");
	const answer = await text(response);
	if (response.statusCode !== 200) throw new Error(`it answered ${response.statusCode}`);
	process.stdout.write(answer);
} catch (error) {
	console.error(`The session could not be cleared at ${url}: ${error.message || error.code}
  - If Caddy serves the app at another address, set APP_URL to that.
  - If Caddy does not run, start it.`);
	process.exitCode = 1;
}

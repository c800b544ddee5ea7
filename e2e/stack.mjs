// The example app with Caddy before it, on the loopback and on ports and a
// database of their own.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { mkdirSync, openSync, readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import https from "node:https";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import pg from "pg";
import { chromium } from "playwright-core";

const app = fileURLToPath(new URL("../examples/nextjs", import.meta.url));

export const variant = process.env.AUTH_VARIANT;
export const artifacts = path.join(process.env.E2E_ARTIFACTS, variant);
mkdirSync(artifacts, { recursive: true });

// How soon a reseed has to be noticed: half a second is promised, the rest is
// for a machine that is busy with other tests. It is less than what the
// module's cache keeps an account without asking again, by far.
const promised = 3000;

// Enough for a page on a slow machine.
const patience = 15_000;

/**
 * Starts everything. Options:
 *
 * - ids: "uuid" or "serial"
 * - module: whether the directive stands in the Caddyfile
 * - options: its options besides sign_in, as lines
 * - origin: scheme and host that browsers use
 * - environment: further variables of the app and of Caddy
 */
export async function start(name, given = {}) {
	const stack = new Stack(name, given);
	try {
		await stack.start();
		return stack;
	} catch (error) {
		await stack.stop();
		throw error;
	}
}

class Stack {
	#ids;
	#module;
	#options;
	#environment;
	#name;
	#port;
	#directory;
	#processes = [];
	#browser;
	#visitors = new Set();

	constructor(name, { ids = "uuid", module = process.env.MODULE !== "off", options = [], origin = "http://localhost", environment = {} }) {
		this.#name = name;
		this.#ids = ids;
		this.#module = module;
		this.#options = options;
		this.#environment = environment;
		this.origin = origin;
		this.failures = [];
	}

	async start() {
		const [site, next, admin] = await Promise.all([freePort(), freePort(), freePort()]);
		this.#port = site;
		this.#directory = await mkdtemp(path.join(os.tmpdir(), "e2e-"));
		this.address = `${this.origin}:${site}`;
		this.database = `${this.#name}_${variant}`.replaceAll("-", "_");
		const { PATH, HOME, TMPDIR } = process.env;
		this.#environment = {
			PATH, HOME, TMPDIR,
			XDG_CONFIG_HOME: this.#directory,
			XDG_DATA_HOME: this.#directory,
			NEXT_TELEMETRY_DISABLED: "1",
			AUTH_VARIANT: variant,
			IDS: this.#ids,
			DATABASE_URL: databaseURL(this.database),
			AUTH_SECRET: "the secret of the browser tests",
			AUTH_URL: this.address,
			NEXTAUTH_URL: this.address,
			APP_URL: this.address,
			CADDY_ADMIN: `localhost:${admin}`,
			...this.#environment,
		};

		await query("postgres", `CREATE DATABASE "${this.database}"`);
		await this.npm("db:seed");
		this.#run("next", process.execPath, ["node_modules/next/dist/bin/next", "start", "-H", "127.0.0.1", "-p", String(next)]);
		const caddyfile = path.join(this.#directory, "Caddyfile");
		await writeFile(caddyfile, this.#caddyfile(admin, next));
		this.#run("caddy", process.env.E2E_CADDY, ["run", "--config", caddyfile, "--adapter", "caddyfile"]);
		this.#browser = await chromium.launch({
			executablePath: process.env.CHROMIUM,
			args: ["--host-resolver-rules=MAP *.example.test 127.0.0.1"],
		});
		await until(() => this.#status("/"), "the app to answer through Caddy", patience * 2);
	}

	#caddyfile(admin, next) {
		const directive = ["stale_session @guarded {", "\tsign_in /auth/signin", ...this.#options.map((line) => `\t${line}`), "}"];
		const site = [
			"@guarded path /admin* /api/admin* /api/site-customization* /api/upload*",
			...(this.#module ? directive : []),
			`reverse_proxy 127.0.0.1:${next}`,
			...(this.origin.startsWith("https:") ? ["tls internal"] : []),
		];
		return `{
	admin localhost:${admin}
	default_bind 127.0.0.1
	auto_https disable_redirects
	skip_install_trust
}
${this.address} {
${site.map((line) => `\t${line}`).join("\n")}
}
`;
	}

	#run(name, program, args) {
		const log = openSync(path.join(artifacts, `${this.#name}-${name}.log`), "w");
		const process = spawn(program, args, { cwd: app, env: this.#environment, stdio: ["ignore", log, log] });
		process.on("error", (error) => console.error(`${name}: ${error.message}`));
		this.#processes.push(process);
	}

	async stop() {
		await this.#browser?.close();
		await Promise.all(this.#processes.map(end));
		if (this.#directory) await rm(this.#directory, { recursive: true });
	}

	/** Runs an npm script of the app, and returns what it prints. */
	async npm(script, environment = {}) {
		const { stdout } = await promisify(execFile)("npm", ["run", "--silent", script], {
			cwd: app,
			env: { ...this.#environment, ...environment },
		});
		return stdout;
	}

	/** Runs SQL in the app's database, and returns the rows. */
	query(sql, ...values) {
		return query(this.database, sql, values);
	}

	/** Seeds the database, and waits until Caddy has noticed that the session of a browser is stale. */
	async reseed(context, environment) {
		await this.npm("db:seed", environment);
		if (this.#module) await this.noticed(context);
	}

	/** Waits until Caddy refuses the session that a browser has, without the browser. */
	async noticed(context) {
		const cookies = (await context.cookies()).map(({ name, value }) => `${name}=${value}`).join("; ");
		await until(
			async () => (await this.#get("/api/admin/stats", { cookie: cookies })).body.includes("stale_session"),
			"Caddy to notice that a session is stale",
			promised,
		);
	}

	async #status(path) {
		return (await this.#get(path)).status === 200;
	}

	// Not by fetch, which knows neither the host nor Caddy's certificates.
	#get(path, headers = {}) {
		const { protocol, host, hostname } = new URL(this.address);
		const { get } = protocol === "https:" ? https : http;
		return new Promise((resolve, reject) => {
			const options = { host: "127.0.0.1", port: this.#port, path, servername: hostname, rejectUnauthorized: false, agent: false };
			get({ ...options, headers: { host, ...headers } }, async (response) => {
				const body = (await response.setEncoding("utf8").toArray()).join("");
				resolve({ status: response.statusCode, body });
			}).on("error", reject);
		});
	}

	/** How many foreign-key violations the app has run into. */
	violations() {
		const log = readFileSync(process.env.E2E_POSTGRES_LOG, "utf8");
		return log.split("\n").filter((line) => line.includes(`] ${this.database} ERROR:`) && line.includes("foreign key constraint")).length;
	}

	/** A page of a new browser with no cookies, which is closed after a test. */
	async visit(test, options = {}) {
		const context = await this.#browser.newContext({
			baseURL: this.address,
			ignoreHTTPSErrors: this.origin.startsWith("https:"),
			...options,
		});
		context.setDefaultTimeout(patience);
		test.after(() => context.close());
		context.on("response", (response) => {
			if (response.status() >= 500) this.failures.push(`${response.status()} ${response.url()}`);
		});
		return context.newPage();
	}
}

async function query(database, sql, values) {
	const client = new pg.Client({ connectionString: databaseURL(database) });
	await client.connect();
	try {
		return (await client.query(sql, values)).rows;
	} finally {
		await client.end();
	}
}

function databaseURL(database) {
	const url = new URL(process.env.E2E_POSTGRES);
	url.pathname = database;
	return url.href;
}

async function until(condition, what, milliseconds) {
	const deadline = Date.now() + milliseconds;
	for (;;) {
		let reason = "";
		try {
			if (await condition()) return;
		} catch (error) {
			reason = `: ${error.message}`;
		}
		assert.ok(Date.now() < deadline, `waited ${milliseconds} ms in vain for ${what}${reason}`);
		await delay(20);
	}
}

function end(process) {
	if (process.pid === undefined || process.exitCode !== null || process.signalCode !== null) return;
	return new Promise((resolve) => {
		process.on("exit", resolve);
		process.kill();
	});
}

// Below the range that systems give to outgoing connections, so that none of
// these gets in the way.
async function freePort() {
	for (;;) {
		const port = 15_000 + Math.floor(Math.random() * 16_000);
		const server = net.createServer();
		const free = await new Promise((resolve) => {
			server.once("error", () => resolve(false));
			server.listen(port, "127.0.0.1", () => resolve(true));
		});
		if (!free) continue;
		await new Promise((resolve) => server.close(resolve));
		return port;
	}
}

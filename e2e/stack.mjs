// An app behind Caddy, on the loopback, with its own ports and database.

import { execFile, spawn } from "node:child_process";
import { mkdirSync, openSync, readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import https from "node:https";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { chromium } from "playwright-core";
import { databaseURL, patient, query } from "./database.mjs";
import { end, freePort, until } from "./processes.mjs";

export const variant = process.env.AUTH_VARIANT;
const artifacts = path.join(process.env.E2E_ARTIFACTS, variant);
mkdirSync(artifacts, { recursive: true });

// The longest that a reseed may go unnoticed: the module polls twice a second,
// and the machine may be busy. It is less than the 30 seconds for which the
// module caches an account.
export const promised = 25_000;

// The longest that a page may take on a busy machine, and an app to start.
const patience = 60_000;
const startup = 120_000;

// An option for a busy machine, where sessions would pass unchecked after half a second.
const timeout = "\ttimeout 30s";

// A page that sends nothing for this long has loaded its session and its
// prefetches.
const settled = 500;

/** Returns the path of a file of this repository, given one that begins here. */
function file(name) {
	return fileURLToPath(new URL(name, import.meta.url));
}

/**
 * Starts everything. Options:
 *
 * - app: one in apps/, instead of the example app
 * - page: the page of docs/fronting that shows the Caddyfile; that of the app
 * - example: which of its Caddyfiles that is, if there are more than one
 * - browser: one that others use too, instead of one of its own
 * - ids: "uuid" or "serial"
 * - module: whether the Caddyfile has the directive
 * - guarded: the paths that it guards
 * - options: its options besides sign_in, as lines
 * - origin: scheme and host that browsers use
 * - environment: more variables for the app and Caddy
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

/** Starts a browser. */
export function launch() {
	return chromium.launch({
		executablePath: process.env.CHROMIUM,
		args: ["--host-resolver-rules=MAP *.example.test 127.0.0.1"],
	});
}

class Stack {
	#page;
	#example;
	#folder;
	#scripts; // which start sooner without npm
	#caddyfile;
	#ids;
	#module;
	#guarded;
	#options;
	#environment;
	#name;
	#port;
	#directory;
	#processes = [];
	#browser;
	#shared; // the browser of others
	#traffic = new WeakMap();

	constructor(name, {
		app,
		page = app,
		example = 0,
		browser,
		ids = "uuid",
		module = process.env.MODULE !== "off",
		guarded = ["/admin*", "/api/admin*", "/api/site-customization*", "/api/upload*"],
		options = [],
		origin = "http://localhost",
		environment = {},
	}) {
		this.#name = name;
		this.#page = page;
		this.#example = example;
		this.#shared = browser;
		this.#folder = file(app ? `apps/${app}` : "../examples/nextjs");
		this.#scripts = JSON.parse(readFileSync(path.join(this.#folder, "package.json"))).scripts;
		this.#ids = ids;
		this.#module = module;
		this.#guarded = guarded;
		this.#options = options;
		this.#environment = environment;
		this.origin = origin;
		this.failures = [];
	}

	async start() {
		const [site, upstream, admin] = await Promise.all([freePort(), freePort(), freePort()]);
		this.#port = site;
		this.#directory = await mkdtemp(path.join(os.tmpdir(), "e2e-"));
		this.address = `${this.origin}:${site}`;
		this.admin = `localhost:${admin}`;
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
			ORIGIN: this.address,
			HOST: "127.0.0.1",
			PORT: String(upstream),
			CADDY_ADMIN: this.admin,
			...(this.secure ? { CURL_CA_BUNDLE: path.join(this.#directory, "caddy/pki/authorities/local/root.crt") } : {}),
			...this.#environment,
		};

		await query("postgres", `CREATE DATABASE "${this.database}"`);
		await this.seed();
		const [program, ...args] = this.#scripts.start.split(" ");
		this.#run("app", process.execPath, program === "next" ? ["node_modules/next/dist/bin/next", ...args, "-H", "127.0.0.1"] : args);
		this.#caddyfile = path.join(this.#directory, "Caddyfile");
		await writeFile(this.#caddyfile, this.#global() + (this.#page ? this.#documented(upstream) : this.#site(upstream)));
		this.#run("caddy", process.env.E2E_CADDY, ["run", "--config", this.#caddyfile, "--adapter", "caddyfile"], {
			...this.#environment,
			DATABASE_URL: patient(this.#environment.DATABASE_URL),
		});
		this.#browser = this.#shared ?? (await launch());
		await until(() => this.#status("/"), "the app to answer through Caddy", startup, 100);
	}

	#global() {
		return `{
	admin ${this.admin}
	default_bind 127.0.0.1
	auto_https disable_redirects
	skip_install_trust
}
`;
	}

	#site(upstream) {
		const directive = ["stale_session @guarded {", "\tsign_in /auth/signin", timeout, ...this.#options.map((line) => `\t${line}`), "}"];
		const site = [
			`@guarded path ${this.#guarded.join(" ")}`,
			...(this.#module ? directive : []),
			`reverse_proxy 127.0.0.1:${upstream}`,
			...(this.secure ? ["tls internal"] : []),
		];
		return `${this.address} {
${site.map((line) => `\t${line}`).join("\n")}
}
`;
	}

	/** A Caddyfile of a page of the documentation, with the addresses of the tests. */
	#documented(upstream) {
		const page = readFileSync(file(`../docs/fronting/${this.#page}.md`), "utf8");
		const [, caddyfile] = [...page.matchAll(/^```caddyfile\n(example\.com.*?)^```/gms)][this.#example];
		const site = caddyfile.replaceAll("example.com", this.address).replaceAll("localhost:3000", `127.0.0.1:${upstream}`);
		const withOption = (line, head, block) => (block ? `${line}\n\t${timeout}` : `${line} {\n\t${timeout}\n\t}`);
		return this.#module ? site.replace(/^(\tstale_session\b[^{\n]*?)( \{)?$/m, withOption) : site.replace(/^\tstale_session\b[^{\n]*(\{.*?^\t\})?\n/ms, "");
	}

	#run(name, program, args, environment = this.#environment) {
		const log = openSync(path.join(artifacts, `${this.#name}-${name}.log`), "w");
		const process = spawn(program, args, { cwd: this.#folder, env: environment, stdio: ["ignore", log, log] });
		process.on("error", (error) => console.error(`${name}: ${error.message}`));
		this.#processes.push(process);
	}

	async stop() {
		if (!this.#shared) await this.#browser?.close();
		await Promise.all(this.#processes.map(end));
		if (this.#directory) await rm(this.#directory, { recursive: true });
	}

	get secure() {
		return this.origin.startsWith("https:");
	}

	/** Runs an npm script of the app and returns what it prints. */
	npm(script, environment) {
		return this.#print("npm", ["run", "--silent", script], environment);
	}

	/** Seeds the database as `npm run db:seed` does and returns what that prints. */
	seed(environment) {
		return this.#print("sh", ["-c", this.#scripts["db:seed"]], environment);
	}

	/** Has Caddy begin anew with the same configuration. */
	async reload() {
		await this.caddy("reload", "--force", "--config", this.#caddyfile, "--adapter", "caddyfile", "--address", this.admin);
	}

	/** Runs a command of Caddy and returns what it prints. */
	caddy(...args) {
		return this.#print(process.env.E2E_CADDY, args);
	}

	async #print(program, args, environment) {
		const { stdout } = await promisify(execFile)(program, args, { cwd: this.#folder, env: { ...this.#environment, ...environment } });
		return stdout;
	}

	/** Runs SQL in the app's database and returns the rows. */
	query(sql, ...values) {
		return query(this.database, sql, values);
	}

	/**
	 * Waits until the pages of a browser send no more requests by themselves.
	 * Such a request with a stale session would end it before the person does
	 * something. A test may hold some of its requests.
	 */
	settled(context, held = 0) {
		const { pending, seen } = this.#traffic.get(context);
		return until(() => pending.size === held && Date.now() - seen() >= settled, "pages to have what they ask for", patience);
	}

	/** Sets cookies again that were cleared, as a response that was sent earlier would. */
	async giveBack(context, cookies) {
		await this.settled(context);
		await context.clearCookies({ name: "stale-session-ended" }); // Caddy's marker that it has cleared them
		await context.addCookies(cookies);
	}

	/**
	 * Seeds the database and waits until Caddy notices that the session of a
	 * browser is stale. Returns what the seed prints.
	 */
	async reseed(context, environment) {
		await this.settled(context);
		const said = await this.seed(environment);
		await this.noticed(context);
		return said;
	}

	/** Waits until Caddy, if it has the module, refuses the session of a browser. The browser sends nothing. */
	async noticed(context) {
		if (!this.#module) return;
		const cookies = (await context.cookies()).map(({ name, value }) => `${name}=${value}`).join("; ");
		await until(
			async () => (await this.#get("/api/admin/stats", { cookie: cookies })).body.includes("stale_session"),
			"Caddy to notice that a session is stale",
			promised,
			100, // until then, the app answers
		);
	}

	async #status(path) {
		return (await this.#get(path)).status === 200;
	}

	// fetch can set neither the Host header nor the trusted certificates.
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

	/** Returns how many foreign-key violations the app has caused. */
	violations() {
		const log = readFileSync(process.env.E2E_POSTGRES_LOG, "utf8");
		return log.split("\n").filter((line) => line.includes(`] ${this.database} ERROR:`) && line.includes("foreign key constraint")).length;
	}

	/** Returns a page of a new browser without cookies, which is closed after the test. */
	async visit(test, options = {}) {
		const context = await this.#browser.newContext({
			baseURL: this.address,
			ignoreHTTPSErrors: this.secure,
			...options,
		});
		context.setDefaultTimeout(patience);
		test.after(() => context.close());
		this.#watch(context);
		context.on("weberror", (error) => console.error(`${this.#name}: ${error.error()} on ${error.page()?.url()}`));
		context.on("response", (response) => {
			if (response.status() >= 500) this.failures.push(`${response.status()} ${response.url()}`);
		});
		return context.newPage();
	}

	#watch(context) {
		const pending = new Set();
		let seen = Date.now();
		this.#traffic.set(context, { pending, seen: () => seen });
		context.on("request", (request) => {
			pending.add(request);
			seen = Date.now();
		});
		const over = (request) => {
			pending.delete(request);
			seen = Date.now();
		};
		context.on("response", (response) => over(response.request())); // which is when cookies change
		context.on("requestfailed", over);
	}

	/** Saves a screenshot of a page among the artifacts. */
	screenshot(page, name) {
		return page.getByRole("main").screenshot({ path: path.join(artifacts, `${this.#name}-${name}.png`) });
	}
}

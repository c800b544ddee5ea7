// Caddy with the module and its dashboard, in front of an app.

import { execFile, spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { openSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { chromium } from "playwright-core";
import { databaseURL, patient, query } from "../database.mjs";
import { end, freePort, until } from "../processes.mjs";

export const artifacts = path.join(process.env.E2E_ARTIFACTS, "dashboard");
await mkdir(artifacts, { recursive: true });

const secret = "the secret of the dashboard's tests";

// Lookups may take long on a busy machine, after which sessions would pass unchecked.
const handler = `stale_session /app/* {
		timeout 30s
		poll 50ms
	}`;

// The longest that something may take on a busy machine.
export const patience = 60_000;

export const operator = { username: "operator", password: "a password" };

/** Starts Caddy. The app is a directive; it answers "ok" if there is none. */
export async function start(name, app = "respond ok") {
	const caddy = new Caddy(name, app);
	try {
		await caddy.start();
		return caddy;
	} catch (error) {
		await caddy.stop();
		throw error;
	}
}

class Caddy {
	#app;
	#directory;
	#file;
	#environment;
	#process;
	#browser;

	constructor(name, app) {
		this.#app = app;
		this.database = `dashboard_${name}`;
	}

	async start() {
		const [site, admin] = await Promise.all([freePort(), freePort()]);
		this.site = `http://localhost:${site}`;
		this.admin = `http://localhost:${admin}/stale_session/`;
		this.#directory = await mkdtemp(path.join(os.tmpdir(), "dashboard-"));
		const { PATH, TMPDIR } = process.env;
		this.#environment = {
			PATH, TMPDIR,
			HOME: this.#directory,
			DATABASE_URL: patient(databaseURL(this.database)),
			AUTH_SECRET: secret,
			PASSWORD_HASH: "$2a$14$EQU1LXBrSaiTLXBIEVvn6eqokZ5xdEWIWtoMCQgmpELz5gF3XBSWi",
		};
		await query("postgres", `CREATE DATABASE "${this.database}"`);
		await this.query(`CREATE TABLE "User" (id text PRIMARY KEY, disabled boolean NOT NULL DEFAULT false)`);
		await this.people("ada", "grace", "linus");
		this.#file = path.join(this.#directory, "Caddyfile");
		await this.#write(handler);
		await this.run();
		this.#browser = await chromium.launch({ executablePath: process.env.CHROMIUM });
	}

	async #write(directive, ...further) {
		await writeFile(this.#file, `{
	admin ${new URL(this.admin).host} {
		origins ${new URL(this.admin).host} ""
	}
	persist_config off
	skip_install_trust
	storage file_system ${this.#directory}
}
${this.site} {
	bind 127.0.0.1
	redir /sessions /sessions/
	route /sessions/* {
		basic_auth {
			operator {env.PASSWORD_HASH}
		}
		stale_session_dashboard
	}
	handle_path /operate* {
		stale_session_dashboard {
			actions
		}
	}
	${directive}
	${this.#app}
	${further.join("\n\t")}
}
`);
	}

	/** Loads the Caddyfile with another directive. */
	async reload(further = "") {
		await this.#write(handler, further);
		await this.#load();
	}

	/** Loads the Caddyfile without a stale_session handler. */
	async reloadWithout() {
		await this.#write("");
		await this.#load();
	}

	async #load() {
		await promisify(execFile)(process.env.E2E_CADDY, ["reload", "--config", this.#file, "--adapter", "caddyfile"], { env: this.#environment });
	}

	/** Starts Caddy with the Caddyfile, or restarts it. */
	async run() {
		const log = openSync(path.join(artifacts, `${this.database}.log`), "a");
		this.#process = spawn(process.env.E2E_CADDY, ["run", "--config", this.#file, "--adapter", "caddyfile"], {
			env: this.#environment,
			stdio: ["ignore", log, log],
		});
		await until(async () => (await fetch(this.site)).ok, "Caddy to answer", patience);
	}

	/** Ends Caddy, which looks like a crash on the dashboard. */
	halt() {
		return end(this.#process);
	}

	async stop() {
		await this.#browser?.close();
		if (this.#process) await this.halt();
		if (this.#directory) await rm(this.#directory, { recursive: true });
	}

	query(sql, ...values) {
		return query(this.database, sql, values);
	}

	people(...ids) {
		return this.query(`INSERT INTO "User" SELECT unnest($1::text[])`, ids);
	}

	/** The session of a user, as a Cookie field. */
	session(subject, age = 60) {
		const now = Math.floor(Date.now() / 1000);
		const encode = (part) => Buffer.from(JSON.stringify(part)).toString("base64url");
		const text = `${encode({ alg: "HS256", typ: "JWT" })}.${encode({ sub: subject, iat: now - age, exp: now + 86_400 })}`;
		return `next-auth.session-token=${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
	}

	/**
	 * Returns the status of the response to a request of a user. It has a
	 * connection of its own: a reload closes idle ones, perhaps just then.
	 */
	async ask(cookie, page = "/app/admin") {
		const { status } = await fetch(this.site + page, { headers: { cookie, connection: "close" }, redirect: "manual" });
		return status;
	}

	/** Returns a page in a new browser window, which is closed after the test. */
	async window(test, options = {}) {
		const context = await this.#browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
		context.setDefaultTimeout(patience);
		test.after(() => context.close());
		return context.newPage();
	}
}

// Sessions of other libraries than Auth.js: an app with each, in one browser.

import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { databaseURL } from "../database.mjs";
import { ada, sees, shows, statusOf } from "../person.mjs";
import { freePort, until } from "../processes.mjs";
import { launch, promised, start } from "../stack.mjs";
import { isAskedToSignIn, signedIn, signIn } from "./doors.mjs";

const secret = "a secret of the browser tests, of 32 characters or more";
const stats = "/api/admin/stats";

const supabase = new URL(databaseURL("supabase_apps"));
supabase.username = "stale_session"; // the role of the documentation

/**
 * The apps. Of an app:
 *
 * - users: its table of users; users by default
 * - values: of a new row for Ada; null if people sign up by themselves
 * - sites: the first labels of its hosts, if it has several
 * - elsewhere: whether it can sign out other sessions
 * - keeps: the sites on which cookies stay, as the app leaves them
 * - anything else is for start of stack.mjs
 */
const apps = {
	"better-auth": {
		users: '"user"', values: null, sites: ["none", "compact", "jwt", "jwe"], elsewhere: true, keeps: ["none"],
		origin: "http://*.example.test", environment: { BETTER_AUTH_SECRET: secret },
	},
	"better-auth-redis": {
		app: "better-auth", page: "better-auth", example: 1,
		users: '"user"', values: null, sites: ["none"], elsewhere: true,
		origin: "http://*.example.test", environment: { BETTER_AUTH_SECRET: secret, REDIS_URL: process.env.E2E_REDIS },
	},
	"iron-session": { environment: { SESSION_PASSWORD: secret } },
	nuxt: { page: "h3", environment: { NUXT_SESSION_PASSWORD: secret } },
	"react-router-cookie": { app: "react-router", page: "remix", environment: { SESSION_SECRET: secret } },
	supabase: {
		users: "auth.users", values: "(email) VALUES ('ada@example.com')", elsewhere: true,
		environment: {
			DATABASE_URL: supabase.href, APP_DATABASE_URL: databaseURL("supabase_apps"), SUPABASE_URL: `http://127.0.0.1:${await freePort()}`,
		},
	},
};

const browser = await launch();
after(() => browser.close());

describe("a session ends with its user,", { concurrency: 3 }, () => {
	for (const [name, { users = "users", sites = [""], elsewhere, keeps = [], values, ...given }] of Object.entries(apps)) {
		test(name, async (t) => {
			const stack = await start(name, { app: name, ...given, browser, environment: { AUTH_SECRET: undefined, ...given.environment } });
			t.after(() => stack.stop());
			for (const site of sites) {
				await t.test(site || "Ada's", async (t) => {
					const people = new People(t, stack, stack.address.replace("*", site));
					await people.lose({ users, values, keeps: keeps.includes(site) });
					if (elsewhere) await people.signOutElsewhere();
					assert.deepEqual(stack.failures, [], "the app has failed");
					assert.equal(stack.violations(), 0);
				});
			}
		});
	}
});

/** Ada, who loses her account, and Grace, who does not. */
class People {
	#test;
	#stack;
	#address;
	#grace;

	constructor(test, stack, address) {
		this.#test = test;
		this.#stack = stack;
		this.#address = address;
	}

	#signedIn(email) {
		return signedIn(this.#test, this.#stack, email, { baseURL: this.#address });
	}

	/** Has Ada lose her account, and make another one. Somebody has a copy of her cookies. */
	async lose({ users, values = "(name, email, password) VALUES ('Ada Lovelace', 'ada@example.com', 'password')", keeps }) {
		this.#grace = await this.#signedIn("grace@example.com");
		const page = await this.#signedIn(ada);
		await saves(page, "by Ada");
		const storageState = await page.context().storageState();
		const copy = await this.#stack.visit(this.#test, { baseURL: this.#address, storageState });
		await copy.goto("/admin");
		await sees(copy, "Admin");
		for (const tab of [page, copy]) await this.#stack.settled(tab.context());

		await this.#stack.query(`DELETE FROM ${users} WHERE email = $1`, ada);
		await isRefused(copy);
		await save(page, "of nobody");
		await isAskedToSignIn(page);
		await this.#stack.giveBack(copy.context(), storageState.cookies);
		await copy.goto("/admin");
		await isAskedToSignIn(copy);
		if (!keeps) {
			const left = (await copy.context().cookies()).filter(({ name }) => storageState.cookies.some((cookie) => cookie.name === name));
			assert.deepEqual(left, []);
		}

		if (values) await this.#stack.query(`INSERT INTO ${users} ${values}`);
		await signIn(page);
		await sees(page, "Admin");
		await saves(page, "by Ada again");
		await this.#stack.giveBack(copy.context(), storageState.cookies);
		assert.equal(await statusOf(copy, stats), 401, "the cookies of before are accepted again");
		await this.#staysSignedIn();
	}

	/** Has Grace sign out a browser from another one. */
	async signOutElsewhere() {
		const other = await this.#signedIn("grace@example.com");
		await this.#grace.getByRole("button", { name: "Sign out elsewhere" }).click();
		await this.#grace.getByRole("button", { name: "Signed out elsewhere" }).waitFor();
		await isRefused(other);
		await other.goto("/admin");
		await isAskedToSignIn(other);
		await this.#staysSignedIn();
	}

	async #staysSignedIn() {
		await this.#grace.reload();
		await sees(this.#grace, "Admin");
		await saves(this.#grace, "by Grace");
	}
}

async function isRefused(page) {
	await until(async () => (await statusOf(page, stats)) === 401, "a session to be refused", promised);
}

async function save(page, note) {
	await page.getByLabel("Note", { exact: true }).fill(note);
	await page.getByRole("button", { name: "Save note" }).click();
}

/** Saves a note, and waits until the page has it. */
async function saves(page, note) {
	await save(page, note);
	await shows(page.getByRole("listitem").first(), note);
}

// Reused ids: after a reseed in reverse order, Alan has the id that Ada had.

import assert from "node:assert/strict";
import { after, afterEach, test } from "node:test";
import { isAskedToSignIn, responseTo, saveNote, saveTitle, saveTitleByFetch, sees, sessionCookies, shows, signedIn, statusOf, upload } from "./person.mjs";
import { startProvider } from "./provider.mjs";
import { start } from "./stack.mjs";

const provider = await startProvider({ sub: "olga", name: "Olga Ladyzhenskaya", email: "olga@example.com" });
after(() => provider.stop());

const stack = await start("reuse", {
	ids: "serial",
	options: ["users {", "\tmatch email email", "}"],
	environment: { OAUTH_ISSUER: provider.issuer, OAUTH_CLIENT_ID: "the app", OAUTH_CLIENT_SECRET: "its secret" },
});
after(() => stack.stop());

afterEach(() => assert.deepEqual(stack.failures.splice(0), [], "the app has failed"));

const userOf = async (id) => (await stack.query("SELECT email FROM users WHERE id = $1", id))[0].email;

/** Returns a page at /admin with Ada's session, whose id is now Alan's, and its cookies. */
async function staleAda(t) {
	await stack.seed();
	assert.equal(await userOf(2), "ada@example.com");
	const page = await signedIn(t, stack, "ada@example.com");
	const stale = await sessionCookies(page.context());
	await stack.reseed(page.context(), { SEED_ORDER: "reversed" });
	assert.equal(await userOf(2), "alan@example.com");
	return { page, stale, again: () => stack.giveBack(page.context(), stale) };
}

test("Ada's session never acts as Alan, who has her id now", async (t) => {
	const { page, again } = await staleAda(t);
	const refused = async (method, path, action) => {
		await again();
		const [response] = await Promise.all([responseTo(page, method, path), action(page, "Ada's")]);
		assert.equal(response.status(), 401);
		assert.equal((await response.json()).error, "stale_session");
	};
	await refused("POST", "/api/upload", upload);
	await refused("POST", "/api/site-customization", saveTitleByFetch);
	await again();
	await saveNote(page, "Ada's");
	await isAskedToSignIn(page);

	await again();
	await page.goto("/admin/settings");
	await isAskedToSignIn(page);
	await again();
	await page.goto("/");
	await shows(page.getByTestId("session"), "Not signed in");
	await again();
	assert.equal(await statusOf(page, "/api/admin/stats"), 401);
	await again();
	const session = await page.evaluate(async () => (await fetch("/api/auth/session")).json());
	assert.deepEqual(session ?? {}, {});

	for (const table of ["media", "notes", "site_customization"]) {
		assert.deepEqual(await stack.query(`SELECT * FROM ${table}`), []);
	}
});

test("Ada's form saves nothing in the name of Alan, who has her id now", async (t) => {
	const { page } = await staleAda(t);
	await saveTitle(page, "Ada's");
	await isAskedToSignIn(page);
	assert.deepEqual(await stack.query("SELECT * FROM site_customization"), []);
});

test("an OAuth sign-in beside Ada's session is not linked to Alan, who has her id now", async (t) => {
	const { page, stale, again } = await staleAda(t);
	await page.goto("/auth/signin?callbackUrl=/admin");
	await page.getByRole("button", { name: "Sign in with Test" }).click();
	await sees(page, "Test");
	await again();
	const [callback] = await Promise.all([
		page.waitForRequest("**/api/auth/callback/test?*"),
		page.getByRole("link", { name: "Allow" }).click(),
	]);
	assert.ok((await callback.allHeaders()).cookie.includes(stale[0].value), "the stale session was not sent along");
	await sees(page, "Admin");
	await shows(page.getByRole("main"), "Hello Olga Ladyzhenskaya");
	const accounts = await stack.query(`SELECT email, provider FROM accounts LEFT JOIN users ON users.id = accounts."userId"`);
	assert.deepEqual(accounts, [{ email: "olga@example.com", provider: "test" }]);
});

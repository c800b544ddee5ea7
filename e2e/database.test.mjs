// A deleted account, and a database that is unavailable.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { query } from "./database.mjs";
import { ada, fillIn, isAskedToSignIn, sees, sessionCookies, shows, signedIn, signIn, useEverything } from "./person.mjs";
import { start } from "./stack.mjs";

const stack = await start("database");
after(() => stack.stop());

test("somebody whose account is deleted is signed out, and the others are not", async (t) => {
	const page = await signedIn(t, stack, ada);
	const alan = await signedIn(t, stack, "alan@example.com");
	await stack.settled(page.context());
	await stack.query("DELETE FROM users WHERE email = $1", ada);
	await stack.noticed(page.context());

	await page.goto("/admin");
	await isAskedToSignIn(page);
	assert.deepEqual(await sessionCookies(page.context()), []);
	await fillIn(page, ada);
	await shows(page.getByRole("main").getByRole("alert"), "Wrong e-mail or password.");
	await alan.reload();
	await useEverything(alan);
});

test("while the database is away nobody is signed out, and afterwards a reseed is noticed", async (t) => {
	await stack.seed();
	const known = await signedIn(t, stack, ada);
	const unknown = await signedIn(t, stack, "grace@example.com");
	await stack.caddy("stale-session", "flush", "--address", stack.admin);
	await known.reload();
	await sees(known, "Admin");

	await query("postgres", `ALTER DATABASE "${stack.database}" WITH ALLOW_CONNECTIONS false`);
	await query("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", [stack.database]);
	for (const [page, email] of [[known, ada], [unknown, "grace@example.com"], [known, ada]]) {
		await page.goto("/admin/settings");
		await shows(page.getByRole("main"), `Signed in with ${email}`);
	}
	await assert.rejects(stack.query("SELECT 1"), /not currently accepting connections/);
	await query("postgres", `ALTER DATABASE "${stack.database}" WITH ALLOW_CONNECTIONS true`);

	await stack.reseed(known.context());
	await known.goto("/admin");
	await isAskedToSignIn(known);
	await signIn(known, ada);
	await sees(known, "Admin");
	await useEverything(known);
	await unknown.goto("/admin");
	await sees(unknown, "Admin");
});

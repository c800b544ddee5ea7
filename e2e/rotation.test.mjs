// The app has a new secret. Caddy accepts the old one, too.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { isAskedToSignIn, sees, sessionCookies, signedIn, signIn } from "./person.mjs";
import { start } from "./stack.mjs";
import { giveSession } from "./tokens.mjs";

const old = "the secret of last year";

const stack = await start("rotation", {
	options: ["secret {env.AUTH_SECRET} {env.AUTH_SECRET_OLD}"],
	environment: { AUTH_SECRET_OLD: old },
});
after(() => stack.stop());

test("a stale session of the old secret ends", async (t) => {
	const page = await stack.visit(t);
	const context = page.context();
	const [{ id, name, email }] = await stack.query("SELECT id, name, email FROM users WHERE email = 'ada@example.com'");
	await giveSession(context, stack.address, { sub: String(id), name, email }, old);
	await stack.reseed(context);

	await page.goto("/admin");
	await isAskedToSignIn(page);
	assert.deepEqual(await sessionCookies(context), []);
	await signIn(page, email);
	await sees(page, "Admin");
});

test("so does a stale session of the new secret", async (t) => {
	const page = await signedIn(t, stack, "ada@example.com");
	await stack.reseed(page.context());
	await page.goto("/admin");
	await isAskedToSignIn(page);
	assert.deepEqual(await sessionCookies(page.context()), []);
});

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { isAskedToSignIn, sees, sessionCookies, signedIn, signIn, useEverything } from "./person.mjs";
import { start } from "./stack.mjs";

const stack = await start("domain", {
	origin: "http://app.example.test",
	options: ["cookie_domain example.test"],
	environment: { AUTH_COOKIE_DOMAIN: "example.test" },
});
after(() => stack.stop());

test("a session in a cookie of the parent domain ends, and a new one stays", async (t) => {
	const page = await signedIn(t, stack, "ada@example.com");
	const context = page.context();
	const domains = async () => (await sessionCookies(context)).map((cookie) => cookie.domain);
	assert.deepEqual(await domains(), [".example.test"]);
	await stack.reseed(context);

	await page.goto("/admin");
	await isAskedToSignIn(page);
	assert.deepEqual(await domains(), []);
	await signIn(page, "ada@example.com");
	await sees(page, "Admin");
	await useEverything(page);
	assert.deepEqual(await domains(), [".example.test"]);
});

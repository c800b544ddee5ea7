import assert from "node:assert/strict";
import { after, test } from "node:test";
import { isAskedToSignIn, pageLoads, screenshot, sees, signedIn, signIn, useEverything } from "./person.mjs";
import { start } from "./stack.mjs";
import { sessionCookies } from "./tokens.mjs";

const stack = await start("https", { origin: "https://localhost" });
after(() => stack.stop());

test("over https opening a page leads to the sign-in page once, and the cookie is gone", async (t) => {
	const page = await signedIn(t, stack, "ada@example.com");
	const context = page.context();
	await useEverything(page);
	for (const { name, secure } of await sessionCookies(context)) {
		assert.ok(secure && name.startsWith("__Secure-"), name);
	}
	await stack.reseed(context);

	const loads = pageLoads(page);
	await page.goto("/admin");
	await isAskedToSignIn(page);
	assert.deepEqual(await sessionCookies(context), []);
	await screenshot(page, "7-https");
	await signIn(page, "ada@example.com");
	await sees(page, "Admin");
	assert.deepEqual(loads, ["303 /admin", "200 /auth/signin", "200 /admin"]);
	await useEverything(page);
	assert.deepEqual(stack.failures, []);
	assert.equal(stack.violations(), 0);
});

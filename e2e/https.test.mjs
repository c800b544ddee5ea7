// Over HTTPS, with a certificate from Caddy's internal authority.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { ada, sessionCookies, signedIn } from "./person.mjs";
import { testReseeds } from "./reseed.mjs";
import { start } from "./stack.mjs";

const stack = await start("https", { origin: "https://localhost" });
after(() => stack.stop());

test("over https the session cookie has the prefix that keeps it to https", async (t) => {
	const page = await signedIn(t, stack, ada);
	const cookies = await sessionCookies(page.context());
	assert.equal(cookies.length, 1);
	assert.ok(cookies[0].secure && cookies[0].name.startsWith("__Secure-"), cookies[0].name);
});

testReseeds(stack);

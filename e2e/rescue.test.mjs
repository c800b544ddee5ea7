// With polling off, Caddy learns of a reseed only when it is notified. Otherwise
// sessions that were live before pass, and the app violates its foreign keys.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { ada, isAskedToSignIn, saveNote, saveTitle, saveTitleByFetch, sessionCookies, shows, signedIn, staleSession, upload } from "./person.mjs";
import { start } from "./stack.mjs";

const stack = await start("rescue", { options: ["poll off", "cache {", "\tttl 1h", "}"] });
after(() => stack.stop());

const tell = {
	"npm run db:seed": async () => {
		const said = await stack.npm("db:seed");
		assert.match(said, /Caddy dropped [1-9]\d* cached accounts?/);
		assert.match(said, /is sent to sign in on its\s+next request/);
		assert.ok(said.includes(`Sign in again: ${stack.address}/auth/signin`), said);
	},
	"caddy stale-session post-seed": async () => {
		await stack.seed({ CADDY_ADMIN: "localhost:1" });
		assert.match(await stack.caddy("stale-session", "post-seed", "--address", stack.admin), /Caddy dropped [1-9]\d* cached accounts?/);
	},
};

for (const [name, seed] of Object.entries(tell)) {
	test(`${name} tells Caddy, and says how much it dropped and what is next`, async (t) => {
		const page = await signedIn(t, stack, ada);
		await stack.settled(page.context());
		const before = stack.violations();
		await seed();
		await upload(page);
		await shows(page.getByTestId("upload-result"), staleSession);
		assert.equal(stack.violations(), before, "the app was reached");
	});
}

const ways = {
	"an upload": [upload, (page) => shows(page.getByTestId("upload-result"), staleSession)],
	"a fetch": [saveTitleByFetch, (page) => shows(page.getByTestId("customization-result"), staleSession)],
	"a form": [saveTitle, isAskedToSignIn],
	"a Server Action": [saveNote, isAskedToSignIn],
};

for (const [name, [use, isTold]] of Object.entries(ways)) {
	test(`the error that ${name} runs into is answered as the stale session that it is`, async (t) => {
		const page = await signedIn(t, stack, ada);
		await stack.settled(page.context());
		const before = stack.violations();
		await stack.seed({ CADDY_ADMIN: "localhost:1" });

		await use(page, "after the reseed");
		await isTold(page);
		assert.deepEqual(await sessionCookies(page.context()), []);
		assert.equal(stack.violations(), before + 1, "the app caused no violation, so this shows nothing");
		assert.deepEqual(stack.failures.splice(0), [], "the browser has seen the app fail");
	});
}

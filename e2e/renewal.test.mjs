// The session endpoint and the middleware of Auth.js v5 renew sessions without
// checking whether their users exist. These routes are not guarded: the module
// strips stale sessions from the requests and passes them through.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { ada, pageLoads, sees, sessionCookies, shows, signedIn, signIn, statusOf } from "./person.mjs";
import { start, variant } from "./stack.mjs";

const stack = await start("renewal", { guarded: ["/api/admin*"], options: ["scrub all"] });
after(() => stack.stop());

/** Requests of a browser whose page sends nothing else. */
const ways = {
	"a page that the app's proxy looks at": (page) => page.request.get("/admin/settings", { maxRedirects: 0 }),
	"the session": (page) => page.request.get("/api/auth/session"),
	"an update of the session": async (page) => {
		const { csrfToken } = await (await page.request.get("/api/auth/csrf")).json();
		return page.request.post("/api/auth/session", { data: { csrfToken, data: {} } });
	},
};

for (const [name, ask] of Object.entries(ways)) {
	test(`a request for ${name} renews no stale session`, async (t) => {
		const page = await signedIn(t, stack, ada);
		const context = page.context();
		await page.goto("about:blank"); // which asks for nothing meanwhile
		const values = async () => (await sessionCookies(context)).map((cookie) => cookie.value);

		const first = await values();
		await ask(page);
		const stale = await sessionCookies(context);
		if (variant === "v5" || ask !== ways["a page that the app's proxy looks at"]) {
			assert.notDeepEqual(await values(), first, "the app does not renew a live session here, so this shows nothing");
		}

		await stack.reseed(context);
		for (let i = 0; i < 2; i++) {
			await ask(page);
			assert.deepEqual(await values(), []);
			await stack.giveBack(context, stale);
		}
	});
}

test("the app itself sends a stale session that was taken off to the sign-in page, once", async (t) => {
	const page = await signedIn(t, stack, ada);
	await stack.reseed(page.context());

	const loads = pageLoads(page);
	await page.goto("/admin/settings");
	await sees(page, "Sign in");
	assert.deepEqual(loads.map((load) => load.split(" ")[1]), ["/admin/settings", "/auth/signin"]);
	assert.deepEqual(await sessionCookies(page.context()), []);
	await signIn(page, ada);
	await sees(page, "Settings");
	await shows(page.getByRole("main"), `Signed in with ${ada}`);
	assert.equal(await statusOf(page, "/api/admin/stats"), 200);
});

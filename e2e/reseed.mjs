// After a reseed everyone but Grace has a new id.

import assert from "node:assert/strict";
import { afterEach, before, test } from "node:test";
import {
	ada, click, isAskedToSignIn, pageLoads, responseTo, saveNote, saveTitle, saveTitleByFetch, sees, sessionCookies, shows, signedIn,
	signIn, staleSession, statusOf, upload, useEverything,
} from "./person.mjs";
import { giveSession } from "./tokens.mjs";

/** Tests what people see after a reseed. */
export function testReseeds(stack) {
	let grace;
	before(async () => {
		const untilTheEnd = { after() {} };
		grace = await signedIn(untilTheEnd, stack, "grace@example.com");
	});

	afterEach(async () => {
		assert.equal(await statusOf(grace, "/api/admin/stats"), 200, "Grace is no longer signed in");
		assert.deepEqual(stack.failures.splice(0), [], "the app has failed");
	});

	test("opening a page leads to the sign-in page once, with a message, and back after signing in", async (t) => {
		const page = await signedIn(t, stack, ada);
		await useEverything(page);
		await stack.screenshot(page, "1-signed-in");
		await stack.reseed(page.context());

		const loads = pageLoads(page);
		await page.goto("/admin");
		await isAskedToSignIn(page);
		assert.deepEqual(await sessionCookies(page.context()), []);
		await stack.screenshot(page, "2-asked-to-sign-in");
		await signIn(page, ada);
		await sees(page, "Admin");
		assert.deepEqual(loads, ["303 /admin", "200 /auth/signin", "200 /admin"]);
		await useEverything(page);
	});

	test("signing in leads back to the page with its query", async (t) => {
		const page = await signedIn(t, stack, ada);
		await stack.reseed(page.context());
		await page.goto("/admin/settings?tab=mail&sort=a%20b");
		await isAskedToSignIn(page);
		await signIn(page, ada);
		await sees(page, "Settings");
		assert.equal(page.url(), `${stack.address}/admin/settings?tab=mail&sort=a%20b`);
	});

	test("the sign-in page, which forwards people who are signed in, forwards no stale session", async (t) => {
		const page = await signedIn(t, stack, ada);
		await page.goto("/auth/signin");
		await sees(page, "Admin");
		await stack.reseed(page.context());

		const loads = pageLoads(page);
		await page.goto("/auth/signin?callbackUrl=/admin/settings");
		await sees(page, "Sign in");
		assert.deepEqual(await sessionCookies(page.context()), []);
		assert.deepEqual(loads, ["200 /auth/signin"]);
		await signIn(page, ada);
		await sees(page, "Settings");
	});

	test("a client-side navigation leads to the sign-in page", async (t) => {
		const page = await signedIn(t, stack, ada);
		await stack.reseed(page.context());

		const [response] = await Promise.all([responseTo(page, "GET", "/admin/settings"), click(page.getByRole("link", { name: "Settings" }))]);
		assert.ok(response.request().headers().rsc, "the navigation was not client-side");
		await sees(page, "Sign in");
		assert.deepEqual(await sessionCookies(page.context()), []);
		await signIn(page, ada);
		await sees(page, "Settings");
	});

	test("a link that is prefetched breaks nothing, and leads to the sign-in page on click", async (t) => {
		const page = await signedIn(t, stack, ada);
		const errors = [];
		page.on("pageerror", (error) => errors.push(error.message));

		// The prefetch has to be the first request after the reseed: any other would
		// clear the cookie.
		let release;
		const reseeded = new Promise((resolve) => { release = resolve; });
		const prefetched = responseTo(page, "GET", "/admin");
		await page.route("**/api/auth/session", async (route) => {
			await prefetched;
			await route.continue();
		});
		await page.route((url) => url.pathname === "/admin", async (route) => {
			await reseeded;
			await route.continue();
		}, { times: 1 });
		await Promise.all([
			page.waitForRequest("**/api/auth/session"),
			page.waitForRequest((request) => new URL(request.url()).pathname === "/admin"),
			page.goto("/"),
		]);
		await stack.settled(page.context(), 2);
		await stack.seed();
		await stack.noticed(page.context());
		release();
		const prefetch = await prefetched;
		assert.ok(prefetch.request().headers()["next-router-prefetch"], "the link was not prefetched");
		assert.equal(prefetch.status(), 401);
		await sees(page, "Example");
		await shows(page.getByTestId("session"), "Not signed in");
		assert.deepEqual(await sessionCookies(page.context()), []);

		await click(page.getByRole("link", { name: "Admin" }));
		await sees(page, "Sign in");
		assert.deepEqual(errors, []);
		await signIn(page, ada);
		await sees(page, "Admin");
	});

	test("an upload by fetch is answered with a message that the page shows", async (t) => {
		const page = await signedIn(t, stack, ada);
		await stack.reseed(page.context());

		const [response] = await Promise.all([responseTo(page, "POST", "/api/upload"), upload(page)]);
		assert.equal(response.status(), 401);
		assert.equal((await response.json()).error, "stale_session");
		await shows(page.getByTestId("upload-result"), staleSession);
		await stack.screenshot(page, "3-upload");
		assert.deepEqual(await sessionCookies(page.context()), []);
	});

	test("a Server Action leads to the sign-in page, with a message", async (t) => {
		const page = await signedIn(t, stack, ada);
		await stack.reseed(page.context());

		const [request] = await Promise.all([page.waitForRequest((request) => request.method() === "POST"), saveNote(page, "a note")]);
		assert.ok(request.headers()["next-action"], "this was no Server Action");
		await isAskedToSignIn(page);
		await stack.screenshot(page, "4-server-action");
		assert.deepEqual(await sessionCookies(page.context()), []);
		await signIn(page, ada);
		await page.goto("/admin");
		await saveNote(page, "another note");
		await shows(page.getByRole("listitem").first(), "another note");
	});

	test("the form of a Server Action leads to the sign-in page without JavaScript, too", async (t) => {
		const context = (await signedIn(t, stack, ada)).context();
		const page = await stack.visit(t, { storageState: await context.storageState(), javaScriptEnabled: false });
		await page.goto("/admin");
		await stack.reseed(context);

		await page.getByLabel("Note").fill("a note");
		await page.getByRole("button", { name: "Save note" }).click();
		await isAskedToSignIn(page);
		assert.deepEqual(await sessionCookies(page.context()), []);
	});

	test("a form leads to the sign-in page, and the back button does not lead back in", async (t) => {
		const page = await signedIn(t, stack, ada);
		await stack.reseed(page.context());

		const loads = pageLoads(page);
		await saveTitle(page, "a title");
		await isAskedToSignIn(page);
		assert.deepEqual(loads, ["303 /api/site-customization", "200 /auth/signin"]);
		assert.deepEqual(await sessionCookies(page.context()), []);

		await page.goBack();
		await sees(page, "Sign in");
		await signIn(page, ada);
		await sees(page, "Admin");
	});

	test("signing in again in one of two tabs signs both in", async (t) => {
		const one = await signedIn(t, stack, ada);
		const two = await one.context().newPage();
		await two.goto("/admin");
		await stack.reseed(one.context());

		await one.goto("/admin");
		await isAskedToSignIn(one);
		await upload(two);
		await shows(two.getByTestId("upload-result"), "Not signed in");
		await signIn(one, ada);
		await sees(one, "Admin");
		await upload(two);
		await shows(two.getByTestId("upload-result"), "Saved picture.png");
	});

	test("an idle tab that asks for its session never revives it", async (t) => {
		const first = await signedIn(t, stack, ada);
		const context = first.context();
		const tab = await context.newPage();
		await tab.clock.install();
		await tab.goto("/");
		await shows(tab.getByTestId("session"), "Signed in as Ada Lovelace");
		const poll = async () => {
			const answer = responseTo(tab, "GET", "/api/auth/session");
			await tab.clock.fastForward("01:00:00");
			await (await answer).finished();
		};

		const before = await sessionCookies(context);
		await poll();
		const stale = await sessionCookies(context);
		assert.notDeepEqual(stale, before, "the app does not renew sessions, so this shows nothing");

		await stack.reseed(context);
		await poll();
		await shows(tab.getByTestId("session"), "Not signed in");
		assert.deepEqual(await sessionCookies(context), []);
		await stack.screenshot(tab, "5-idle-tab");

		for (let i = 0; i < 3; i++) {
			await stack.giveBack(context, stale);
			await Promise.all([responseTo(tab, "GET", "/api/auth/session"), tab.reload()]);
			await shows(tab.getByTestId("session"), "Not signed in");
			assert.deepEqual(await sessionCookies(context), []);
		}
		await stack.giveBack(context, stale);
		await first.goto("/admin");
		await isAskedToSignIn(first);
	});

	test("a session in several cookies ends as a whole", async (t) => {
		const page = await stack.visit(t);
		const context = page.context();
		const [{ id, name, email }] = await stack.query("SELECT id, name, email FROM users WHERE email = $1", ada);
		await giveSession(context, stack.address, { sub: String(id), name, email, padding: "x".repeat(6000) }, "the secret of the browser tests");
		const given = await sessionCookies(context);
		await Promise.all([responseTo(page, "GET", "/api/auth/session"), page.goto("/admin")]);
		await sees(page, "Admin");
		const renewed = await sessionCookies(context);
		assert.ok(renewed.length > 1);
		assert.notDeepEqual(renewed, given, "the app has not accepted the session");

		await stack.reseed(context);
		await page.goto("/admin");
		await isAskedToSignIn(page);
		assert.deepEqual(await sessionCookies(context), []);
		await signIn(page, ada);
		await sees(page, "Admin");
	});

	test("a seed that cannot tell Caddy does not fail, says what to do, and is noticed all the same", async (t) => {
		const page = await signedIn(t, stack, ada);
		const said = await stack.reseed(page.context(), { CADDY_ADMIN: "localhost:1" });
		assert.match(said, /Caddy could not be notified of the seed/);
		assert.match(said, /If Caddy does not run, start it/);
		await page.goto("/admin");
		await isAskedToSignIn(page);
	});

	test("the manual test list: uploads and customizations are refused, and work after signing in again", async (t) => {
		const page = await signedIn(t, stack, ada);
		const context = page.context();
		const stale = await sessionCookies(context);
		await stack.reseed(context);

		const use = async (method, path, action) => (await Promise.all([responseTo(page, method, path), action(page, "a title")]))[0].status();
		assert.equal(await use("POST", "/api/upload", upload), 401);
		await stack.giveBack(context, stale);
		assert.equal(await use("POST", "/api/site-customization", saveTitleByFetch), 401);
		await shows(page.getByTestId("customization-result"), staleSession);
		await stack.giveBack(context, stale);
		assert.equal(await use("POST", "/api/site-customization", saveTitle), 303);
		await isAskedToSignIn(page);

		await signIn(page, ada);
		await page.goto("/admin");
		await useEverything(page);
		await stack.screenshot(page, "6-signed-in-again");
		assert.equal(await stack.npm("session:clear"), '{"success":true,"message":"Session cleared successfully"}');
		assert.equal(await statusOf(page, "/api/auth/clear-session", { method: "POST" }), 200);
		assert.deepEqual(await sessionCookies(context), []);
	});

	test("Grace, whose id is still there, stays signed in throughout", async () => {
		await grace.reload();
		await sees(grace, "Admin");
		await useEverything(grace);
		await grace.getByRole("link", { name: "Home" }).click();
		await shows(grace.getByTestId("session"), "Signed in as Grace Hopper");
	});

	test("the app ran into no foreign-key violation in all of this", () => {
		assert.equal(stack.violations(), 0);
	});
}

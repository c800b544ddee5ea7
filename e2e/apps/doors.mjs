// What people see at the doors of an app once their account is gone.

import assert from "node:assert/strict";
import { afterEach, before, test } from "node:test";
import { ada, enter, pageLoads, sees, sessionCookies, sessionRequired, statusOf } from "../person.mjs";

const grace = "grace@example.com";

/**
 * Tests doors, given by name. Ada has a tab at each, in a browser of its own, when
 * her account goes. found is what a browser loads from /admin to the sign-in page
 * when Caddy knows nothing yet. Of a door:
 *
 * - open(page): what Ada does
 * - request(request): whether this is what her browser is to send
 * - from: where her tab is; /admin by default
 * - status: that of the answer
 * - stays(page, response): asserts what Ada sees, if the door leads nowhere
 * - back: where signing in leads; `from` by default
 * - script: whether the browser runs JavaScript
 */
export function testDoors(stack, found, doors) {
	const tabs = {};
	let other, stale;
	before(async () => {
		const untilTheEnd = { after() {} };
		other = await signedIn(untilTheEnd, stack, grace);
		const first = await signedIn(untilTheEnd, stack, ada);
		const storageState = await first.context().storageState();
		stale = await sessionCookies(first.context());
		await Promise.all(Object.entries(doors).map(async ([name, { from = "/admin", script = true }]) => {
			tabs[name] = await stack.visit(untilTheEnd, { storageState, javaScriptEnabled: script });
			await tabs[name].goto(from);
		}));
		for (const tab of Object.values(tabs)) await stack.settled(tab.context());
		await stack.reseed(first.context());
	});

	afterEach(async () => {
		assert.equal(await statusOf(other, "/api/admin/stats"), 200, "Grace is no longer signed in");
		assert.deepEqual(stack.failures.splice(0), [], "the app has failed");
	});

	for (const [name, { open, request, from = "/admin", stays, back = from, status }] of Object.entries(doors)) {
		test(`${name} ${stays ? "says that the session has ended" : "leads to the sign-in page, and back after signing in"}`, async () => {
			const page = tabs[name];
			const loads = pageLoads(page);
			const [asked] = await Promise.all([page.waitForRequest(request), open(page)]);
			const response = await asked.response();
			assert.equal(response.status(), status);
			if (stays) {
				await stays(page, response);
			} else {
				await isAskedToSignIn(page);
				assert.ok(loads.length <= 3, `it took ${loads}`);
			}
			assert.deepEqual(await sessionCookies(page.context()), []);
			if (stays) await page.reload(); // which the app leads to its sign-in page
			await signIn(page);
			if (!stays) assert.equal(page.url(), stack.address + back);
			assert.equal(await statusOf(page, "/api/admin/stats"), 200);
		});
	}

	test("a stale session that comes back on the sign-in page keeps nobody from signing in", async (t) => {
		const page = await stack.visit(t);
		await page.goto("/admin");
		await stack.settled(page.context());
		await page.context().addCookies(stale);
		await signIn(page);
		assert.equal(await statusOf(page, "/api/admin/stats"), 200);
	});

	test("a Caddy that has just started finds the sign-in page by itself", async (t) => {
		const page = await signedIn(t, stack, ada);
		await stack.reload();
		for (const expected of [found, ["303 /admin", found.at(-1)]]) {
			await stack.reseed(page.context());
			const loads = pageLoads(page);
			await page.goto("/admin");
			await isAskedToSignIn(page);
			assert.deepEqual(loads, expected);
			page.removeAllListeners("response");
			await signIn(page);
			await sees(page, "Admin");
		}
	});

	test("Grace, whose account is still there, stays signed in throughout", async () => {
		await other.reload();
		await sees(other, "Admin");
		await other.getByLabel("Note", { exact: true }).fill("by Grace");
		await other.getByRole("button", { name: "Save note" }).click();
		await other.getByRole("listitem").filter({ hasText: "by Grace" }).waitFor();
	});

	test("the app ran into no foreign-key violation in all of this", () => {
		assert.equal(stack.violations(), 0);
	});
}

/** Returns a page in a new browser, where a person has signed in and opened /admin. */
export async function signedIn(test, stack, email, options) {
	const page = await stack.visit(test, options);
	await page.goto("/admin");
	await signIn(page, email);
	await page.goto("/admin"); // as none of the apps leads back by itself
	await sees(page, "Admin");
	return page;
}

/** Signs in on a sign-in page, and waits until it leads somewhere else. */
export async function signIn(page, email = ada) {
	const { pathname } = new URL(page.url());
	await enter(page, email);
	await page.getByRole("button", { name: /^Sign in/ }).click();
	await page.waitForURL((url) => url.pathname !== pathname);
}

/** Waits until a page shows the sign-in page, which says why. */
export async function isAskedToSignIn(page) {
	try {
		await page.getByText(sessionRequired).waitFor();
	} catch {
		assert.fail(`expected the sign-in page, saw "${await page.locator("body").innerText()}" at ${page.url()}`);
	}
}

/** Opens a page. */
export const opens = (path) => (page) => page.goto(path);

/** Clicks a link or a button. */
export const clicks = (role, name) => (page) => page.getByRole(role, { name, exact: true }).click();

/** Fetches something, and reads it. */
export const fetches = (path) => (page) => page.evaluate(async (path) => void (await (await fetch(path)).text()), path);

/** Matches a request by its method, path and query. */
export const to = (method, path) => (request) => {
	const { pathname, search } = new URL(request.url());
	return request.method() === method && (pathname === path || pathname + search === path);
};

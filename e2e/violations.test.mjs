// Foreign-key violations that the app causes with sessions of deleted users.

import assert from "node:assert/strict";
import { test } from "node:test";
import { responseTo, saveNote, saveTitle, saveTitleByFetch, sessionCookies, signedIn, upload } from "./person.mjs";
import { start } from "./stack.mjs";

const ways = [
	["/api/upload", upload],
	["/admin", saveNote],
	["/api/site-customization", saveTitleByFetch],
	["/api/site-customization", saveTitle],
];

/** Uses everything with a stale session, from pages that were opened before. */
async function useAfterReseed(t, stack) {
	const page = await signedIn(t, stack, "ada@example.com");
	const context = page.context();
	const tabs = [];
	for (const [path, use] of ways) {
		const tab = await context.newPage();
		await tab.goto("/admin");
		tabs.push([tab, path, use]);
	}
	const stale = await sessionCookies(context);
	await stack.reseed(context);
	for (const [tab, path, use] of tabs) {
		await stack.giveBack(context, stale);
		await Promise.all([responseTo(tab, "POST", path), use(tab, "after the reseed")]);
	}
}

test("stale sessions cause no foreign-key violation", async (t) => {
	const stack = await start("guarded");
	t.after(() => stack.stop());
	await useAfterReseed(t, stack);
	assert.equal(stack.violations(), 0);
});

test("without the module the same uses cause foreign-key violations", async (t) => {
	const stack = await start("unguarded", { module: false });
	t.after(() => stack.stop());
	await useAfterReseed(t, stack);
	assert.equal(stack.violations(), ways.length);
});

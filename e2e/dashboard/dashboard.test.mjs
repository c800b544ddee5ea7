// The dashboard in a browser, as somebody on call uses it.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { after, before, test } from "node:test";
import { artifacts, operator, patience, start } from "./caddy.mjs";
import { until } from "../processes.mjs";

const require = createRequire(import.meta.url);
const axe = await readFile(require.resolve("axe-core/axe.min.js"), "utf8");
const vendored = new URL("../../internal/admin/dashboard/uplot/", import.meta.url);

let caddy;
before(async () => { caddy = await start("test"); });
after(() => caddy?.stop());

/** The dashboard of the admin endpoint, once it is live. Its own errors fail the test. */
async function dashboard(t, options, address = caddy.admin) {
	const page = await caddy.window(t, options);
	const errors = [];
	page.on("pageerror", (error) => errors.push(String(error)));
	page.on("console", (message) => { if (/Content.Security.Policy/i.test(message.text())) errors.push(message.text()); });
	t.after(() => assert.deepEqual(errors, []));
	await page.goto(address);
	await page.locator("#connection[data-state=live]").waitFor();
	return page;
}

const rows = (page, text) => page.locator("#events-table tbody tr:visible").filter({ hasText: text });
const headline = (page) => page.locator("#state-title");

async function says(locator, text) {
	try {
		await locator.filter({ hasText: text }).first().waitFor();
	} catch {
		assert.match((await locator.allInnerTexts()).join("\n"), new RegExp(text));
	}
}

async function lookUp(page, subject) {
	await page.getByLabel("User id").fill(subject);
	await page.getByRole("button", { name: "Look up", exact: true }).click();
}

test("the chart library is the one that npm pins", async () => {
	const lock = JSON.parse(await readFile(new URL("../package-lock.json", import.meta.url), "utf8"));
	const { version } = lock.packages["node_modules/uplot"];
	const dist = path.dirname(require.resolve("uplot"));
	for (const [name, original] of [["uPlot.iife.min.js", "uPlot.iife.min.js"], ["uPlot.min.css", "uPlot.min.css"], ["uPlot.LICENSE.txt", "../LICENSE"]]) {
		const embedded = await readFile(new URL(name, vendored));
		assert.ok(embedded.equals(await readFile(path.join(dist, original))), `${name} is not that of uplot ${version}: make uplot`);
	}
});

test("with nothing wrong it says so", async (t) => {
	const page = await dashboard(t);
	assert.equal(await caddy.ask(caddy.session("ada")), 200);
	await says(headline(page), "All is well");
	await says(page.locator("#handlers"), "enforce 1 handler");
	await says(page.locator("#databases"), "ok");
	assert.equal(await page.locator("#charts canvas").count(), 3);
});

test("a detection appears as it happens, and can be found", async (t) => {
	const page = await dashboard(t);
	assert.equal(await caddy.ask(caddy.session("<b>mallory</b>"), "/app/orders"), 401);
	assert.equal(await caddy.ask(caddy.session("trudy"), "/app/admin"), 401);
	await rows(page, "<b>mallory</b>").waitFor(); // as text
	await rows(page, "trudy").waitFor();

	await page.getByLabel("Contains").fill("orders");
	await rows(page, "trudy").waitFor({ state: "hidden" });
	assert.equal(await rows(page, "mallory").count(), 1);
	await page.getByLabel("Contains").fill("");
	await page.getByLabel("Kind").selectOption({ label: "user not found" });
	assert.equal(await rows(page, "trudy").count(), 1);
	await page.getByLabel("Contains").fill("nobody at all");
	await says(page.locator("#events-empty"), "No event matches the filter.");
});

test("what is counted is what has happened", async (t) => {
	const page = await dashboard(t);
	const counted = async () => (await (await fetch(`${caddy.admin}status`)).json()).counters.checks_total.by.verdict;
	const { live, stale } = await counted();
	for (let i = 0; i < 5; i++) assert.equal(await caddy.ask(caddy.session("grace")), 200);
	for (let i = 0; i < 3; i++) assert.equal(await caddy.ask(caddy.session("nobody")), 401);
	assert.deepEqual([(await counted()).live, (await counted()).stale], [live + 5, (stale ?? 0) + 3]);
	// Since the start, and in the last hour too, once its sample is taken.
	await page.waitForFunction(([live, stale]) => {
		const cells = (row) => [...document.querySelectorAll(`#mix tbody tr:nth-child(${row}) td`)].map(({ textContent }) => textContent);
		return [cells(1)[0], cells(1)[2], cells(2)[0], cells(2)[2]].join() === [live, live, stale, stale].join();
	}, [live + 5, (stale ?? 0) + 3].map(String), { timeout: patience });

	await page.getByText("As a table").click();
	await page.locator("#charts-table tbody tr").first().waitFor();
	assert.match(await page.locator("#charts [role=img]").nth(1).getAttribute("aria-label"), /^Stale and unknown per minute in the last hour: stale \d/);
});

test("who is revoked is stale at the next request, and restored is live again", async (t) => {
	const page = await dashboard(t);
	const session = caddy.session("ada");
	assert.equal(await caddy.ask(session), 200);
	await lookUp(page, "ada");
	await says(page.locator("#answer"), "live");
	await says(page.locator("#answer"), "The user has a row.");

	await page.getByRole("button", { name: "End the sessions…" }).click();
	const dialog = page.getByRole("dialog", { name: "End the sessions of ada?" });
	await dialog.waitFor();
	assert.equal(await page.evaluate(() => document.activeElement.textContent), "Cancel");
	await page.keyboard.press("Escape");
	await dialog.waitFor({ state: "hidden" });
	assert.equal(await page.evaluate(() => document.activeElement.textContent), "End the sessions…");
	assert.equal(await caddy.ask(session), 200);

	await page.keyboard.press("Enter");
	const answered = page.waitForResponse((response) => response.url().endsWith("/revoke"));
	await dialog.getByRole("button", { name: "End the sessions" }).click();
	assert.equal((await answered).status(), 200);
	assert.equal(await caddy.ask(session), 401); // the very next request
	assert.equal(await caddy.ask(caddy.session("ada", -2)), 200); // who has signed in since
	await says(page.locator("#notice"), "The current sessions of ada are revoked.");
	await says(page.locator("#answer"), "stale: token revoked");
	await rows(page, "revoked").first().waitFor();

	await page.getByRole("button", { name: "Restore the sessions of ada" }).click();
	await page.getByRole("dialog").getByRole("button", { name: "Restore" }).click();
	await says(page.locator("#notice"), "no longer revoked");
	assert.equal(await caddy.ask(session), 200);
	await page.locator(".revoked li").waitFor({ state: "detached" });
});

test("the cache is flushed", async (t) => {
	const page = await dashboard(t);
	assert.equal(await caddy.ask(caddy.session("linus")), 200);
	await page.getByRole("button", { name: "Flush cache…" }).click();
	await page.getByRole("dialog").getByRole("button", { name: "Flush the cache" }).click();
	await says(page.locator("#notice"), /^[1-9]\d* accounts removed from the cache\.$/);
});

test("a user who does not exist is looked up from its detection", async (t) => {
	const page = await dashboard(t);
	assert.equal(await caddy.ask(caddy.session("ghost")), 401);
	await page.getByRole("button", { name: "ghost" }).first().click();
	await says(page.locator("#answer"), "stale: user not found");
	await says(page.locator("#answer"), "The user has no row.");
});

test("a database that is away is the first thing to be seen", async (t) => {
	const page = await dashboard(t, { viewport: { width: 360, height: 740 } });
	await caddy.query(`ALTER TABLE "User" RENAME TO "Gone"`);
	await until(async () => {
		await caddy.ask(caddy.session(`somebody ${Math.random()}`));
		return (await headline(page).innerText()) === "User lookups are failing";
	}, "the dashboard to say that the database is away", patience);
	assert.ok((await page.locator("#state").boundingBox()).y < 200);
	await caddy.query(`ALTER TABLE "Gone" RENAME TO "User"`);
	await until(async () => {
		await caddy.ask(caddy.session("grace"));
		return (await headline(page).innerText()) !== "User lookups are failing";
	}, "the dashboard to say that the database is back", patience);
});

test("on a phone nothing is cut off", async (t) => {
	const page = await dashboard(t, { viewport: { width: 360, height: 740 } });
	assert.equal(await caddy.ask(caddy.session("a-long-subject-".repeat(8))), 401);
	await rows(page, "a-long-subject").first().waitFor();
	const [content, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
	assert.ok(content <= window, `${content} of ${window} pixels`);
});

test("the keyboard is enough", async (t) => {
	const page = await dashboard(t);
	assert.equal(await caddy.ask(caddy.session("keyboard")), 401);
	await rows(page, "keyboard").first().waitFor();
	await page.keyboard.press("Tab");
	await page.keyboard.press("Enter"); // the link that skips to the detections
	for (let i = 0; i < 4; i++) await page.keyboard.press("Tab");
	assert.equal(await page.evaluate(() => document.activeElement.textContent), "keyboard");
	await page.keyboard.press("Enter");
	await says(page.locator("#answer"), "stale: user not found");
});

for (const colorScheme of ["light", "dark"]) {
	test(`axe finds nothing serious in the ${colorScheme} scheme`, async (t) => {
		const page = await dashboard(t, { colorScheme });
		assert.equal(await caddy.ask(caddy.session("axe")), 401);
		await rows(page, "axe").first().waitFor();
		await page.getByText("As a table").click();
		await lookUp(page, "ada");
		await page.getByRole("button", { name: "End the sessions…" }).waitFor();
		await isAccessible(page);
		await page.setViewportSize({ width: 360, height: 740 });
		await isAccessible(page);
		await page.getByRole("button", { name: "End the sessions…" }).click();
		await page.getByRole("dialog").waitFor();
		await isAccessible(page);
		await page.screenshot({ path: path.join(artifacts, `${colorScheme}.png`) });
	});
}

async function isAccessible(page) {
	await page.evaluate(`${axe}; undefined`);
	const { violations } = await page.evaluate(() => globalThis.axe.run());
	assert.deepEqual(violations
		.filter(({ impact }) => impact === "serious" || impact === "critical")
		.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`), []);
}

test("when Caddy is away it says so, and comes back by itself", async (t) => {
	const page = await dashboard(t);
	assert.equal(await caddy.ask(caddy.session("before")), 401);
	await rows(page, "before").first().waitFor();
	await dashboard(t, {}, `${caddy.site}/operate/`); // Caddy waits for no stream
	await caddy.halt();
	await page.locator("#connection[data-state=lost]").waitFor();
	await says(page.locator("#connection"), "Connection lost at");
	await says(headline(page), "Caddy does not respond");
	await page.getByRole("button", { name: "Flush cache…" }).click();
	await page.getByRole("dialog").getByRole("button", { name: "Flush the cache" }).click();
	await says(page.getByRole("dialog"), "Caddy does not respond. Check later whether the action took effect.");
	await page.keyboard.press("Escape");

	await caddy.run();
	assert.equal(await caddy.ask(caddy.session("meanwhile")), 401);
	await page.locator("#connection[data-state=live]").waitFor();
	await rows(page, "meanwhile").first().waitFor();
	assert.equal(await rows(page, "before").count(), 1);
	await says(page.locator("#notice"), "Caddy was restarted");
	await page.waitForFunction(() => document.getElementById("state-title").textContent !== "Caddy does not respond");
});

test("on a site it is behind the authentication, and only shows", async (t) => {
	const page = await dashboard(t, { httpCredentials: operator }, `${caddy.site}/sessions`);
	assert.equal(page.url(), `${caddy.site}/sessions/`);
	await page.getByText("Read-only").waitFor();
	assert.equal(await caddy.ask(caddy.session("seen")), 401);
	await rows(page, "seen").first().waitFor();
	await lookUp(page, "grace");
	await says(page.locator("#answer"), "live");
	for (const name of ["Flush cache…", "End the sessions…"]) {
		assert.equal(await page.getByRole("button", { name }).count(), 0, name);
	}
	const refused = await page.evaluate(async () => {
		const response = await fetch("revoke", { method: "POST", headers: { "Content-Type": "application/json" }, body: '{"subject":"grace"}' });
		return `${response.status} ${await response.text()}`;
	});
	assert.match(refused, /^403 .*read-only/);
	assert.equal(await caddy.ask(caddy.session("grace")), 200);
	assert.equal((await fetch(`${caddy.site}/sessions/status`)).status, 401);
});

test("on a site it acts when it may, but not for pages of other sites", async (t) => {
	const page = await dashboard(t, {}, `${caddy.site}/operate`);
	assert.equal(page.url(), `${caddy.site}/operate/`);
	await page.getByRole("button", { name: "Flush cache…" }).click();
	await page.getByRole("dialog").getByRole("button", { name: "Flush the cache" }).click();
	await says(page.locator("#notice"), "removed from the cache");

	for (const address of [`${caddy.site}/operate/revoke`, `${caddy.admin}revoke`]) {
		const elsewhere = await caddy.window(t);
		await elsewhere.goto(caddy.site.replace("localhost", "127.0.0.1")); // another site to the browser
		for (const mode of ["cors", "no-cors"]) {
			await elsewhere.evaluate(([address, mode]) => fetch(address, { method: "POST", mode, body: '{"subject":"linus"}' }).catch(() => {}), [address, mode]);
		}
		const answer = elsewhere.waitForResponse((response) => response.url() === address && response.request().isNavigationRequest());
		await elsewhere.evaluate((address) => {
			const form = Object.assign(document.createElement("form"), { method: "post", action: address, enctype: "text/plain" });
			form.append(Object.assign(document.createElement("input"), { name: '{"subject":"linus","database":"', value: '"}' }));
			document.body.append(form);
			form.submit();
		}, address);
		assert.equal((await answer).status(), 403, address);
	}
	assert.equal(await caddy.ask(caddy.session("linus")), 200);
});

test("a reload ends nothing that is seen", async (t) => {
	const page = await dashboard(t);
	const site = await dashboard(t, {}, `${caddy.site}/operate/`);
	await caddy.reload("header X-Reload yes");
	assert.equal(await caddy.ask(caddy.session("after the reload")), 401);
	for (const each of [page, site]) {
		await rows(each, "after the reload").first().waitFor();
		await each.locator("#connection[data-state=live]").waitFor();
	}
});

test("without a handler it says what to do", async (t) => {
	const page = await dashboard(t);
	await caddy.reloadWithout();
	await says(headline(page), "No active handler");
	await says(page.locator("#state-remedy"), "Add stale_session to a site");
	await caddy.reload();
	await page.waitForFunction(() => document.getElementById("state-title").textContent !== "No active handler");
});

